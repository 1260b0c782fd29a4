/* Job control: controlling terminals, foreground and background groups, stop and continue, hang-ups. */
#include "calls.h"
#include <sys/ioctl.h>
#include <termios.h>

static int m, s, p[2], q[2];
static char path[64];
static siginfo_t told;

static void nap(void)
{
    struct timespec t = {0, 5000000};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

static void tell(int signal, siginfo_t *info, void *context)
{
    (void)context;
    count++, last = signal, told = *info;
}

static void listen_to(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = flags | SA_SIGINFO};
    sigaction(signal, &action, NULL);
}

static void type(const char *keys)
{
    write(m, keys, strlen(keys));
    nap();
}

/* A leader with a terminal of its own does `what`. */
static void session(const char *name, void (*what)(void))
{
    printf("--- %s\n", name);
    m = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    unlockpt(m);
    ptsname_r(m, path, sizeof path);
    pid_t pid = fork();
    if (!pid) {
        alarm(10);
        setsid();
        s = open(path, O_RDWR);
        what();
        _exit(0);
    }
    ended(pid);
    close(m);
}

/* A job in a group of its own, in the foreground or not, does `what` and tells its result. */
static pid_t job(int foreground, void (*what)(void))
{
    char c = 0;
    pipe(p);
    pipe(q);
    pid_t pid = fork();
    if (!pid) {
        setpgid(0, 0);
        signal(SIGINT, SIG_DFL);
        write(q[1], &c, 1);
        close(q[0]), close(q[1]), close(p[1]);
        read(p[0], &c, 1);
        what();
        _exit(0);
    }
    setpgid(pid, pid);
    read(q[0], &c, 1);
    close(q[0]), close(q[1]);
    if (foreground) {
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(s, pid);
        signal(SIGTTOU, SIG_DFL);
    }
    close(p[1]), close(p[0]);
    return pid;
}

static void state(pid_t pid, int options)
{
    int status = 0;
    pid_t found = waitpid(pid, &status, options);
    printf("wait: %s ", found == pid ? "told" : found ? strerrorname_np(errno) : "nothing");
    if (found != pid)
        printf("\n");
    else if (WIFSTOPPED(status))
        printf("stopped by %d\n", WSTOPSIG(status));
    else if (WIFCONTINUED(status))
        printf("continued\n");
    else if (WIFSIGNALED(status))
        printf("killed by %d\n", WTERMSIG(status));
    else
        printf("exit %d\n", WEXITSTATUS(status));
}

static void gone(pid_t pid)
{
    kill(pid, SIGKILL);
    kill(pid, SIGCONT);
    ended(pid);
}

static void sleeps(void)
{
    for (;;)
        pause();
}

static void reads(void) { R(read(s, buffer, 100)); }
static void writes(void) { R(write(s, "x", 1)); }
static void sets(void)
{
    struct termios t;
    R(tcgetattr(s, &t));
    R(tcsetattr(s, TCSANOW, &t));
}
static void takes(void) { R(tcsetpgrp(s, getpgrp())); }
static void flushes(void) { R(tcflush(s, TCIFLUSH)); }
static void reads_ignoring(void) { signal(SIGTTIN, SIG_IGN), reads(); }
static void writes_ignoring(void) { signal(SIGTTOU, SIG_IGN), writes(); }
static void takes_ignoring(void) { signal(SIGTTOU, SIG_IGN), takes(); }

static void reads_blocking(void)
{
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGTTIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    reads();
}

static void reads_handling(void)
{
    on(SIGTTIN, 0);
    reads();
    R(count > 0);
}

static void controlling(void)
{
    pid_t me = getpid();
    R(tcgetsid(s) == me);
    R(tcgetpgrp(s) == me);
    R(tcgetsid(m) == me);
    R(tcgetpgrp(m) == me);
    int t = open("/dev/tty", O_RDWR);
    R(isatty(t));
    R(strcmp(ttyname(t), "/dev/tty"));
    R(tcgetpgrp(t) == me);
    R(write(t, "x", 1));
    R(close(t));
    R(ioctl(s, TIOCSCTTY, 0));
    R(tcsetpgrp(s, -1));
    R(tcsetpgrp(s, 0x7ffffff));
    R(tcsetpgrp(s, getppid()));
    R(ioctl(s, TIOCSPGRP, 8));
    R(setsid());
    int other = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    unlockpt(other);
    char name[64];
    ptsname_r(other, name, sizeof name);
    int second = open(name, O_RDWR);
    R(tcgetsid(second));
    R(tcgetpgrp(second));
    R(tcgetpgrp(other));
    R(tcsetpgrp(second, me));
    R(ioctl(second, TIOCSCTTY, 0));
    R(ioctl(second, TIOCNOTTY, 0));
    pid_t pid = fork();
    if (!pid) {
        R(ioctl(second, TIOCSCTTY, 0));
        R(setsid() == getpid());
        R(open("/dev/tty", O_RDWR));
        R(tcgetpgrp(s));
        R(ioctl(s, TIOCSCTTY, 0));
        int w = open(name, O_WRONLY);
        R(tcgetsid(w));
        R(ioctl(w, TIOCSCTTY, 0));
        R(ioctl(second, TIOCSCTTY, 0));
        R(tcgetsid(second) == getpid());
        R(ioctl(second, TIOCSCTTY, 0));
        signal(SIGHUP, SIG_IGN);
        R(ioctl(second, TIOCNOTTY, 0));
        R(tcgetsid(second));
        R(open("/dev/tty", O_RDWR));
        _exit(0);
    }
    ended(pid);
    signal(SIGHUP, SIG_IGN);
    pid = fork();
    if (!pid) {
        R(ioctl(s, TIOCNOTTY, 0));
        R(open("/dev/tty", O_RDWR));
        R(tcgetpgrp(s));
        _exit(0);
    }
    ended(pid);
    R(tcgetpgrp(s) == me);
}

static void keyboard(void)
{
    listen_to(SIGINT, 0);
    type("\003");
    R(count);
    R(last);
    R(told.si_code);
    R(told.si_pid);
    pid_t pid = job(1, sleeps);
    type("\003");
    state(pid, 0);
    pid = job(1, sleeps);
    type("\034");
    state(pid, 0);
    pid = job(1, sleeps);
    type("\032");
    state(pid, WUNTRACED);
    state(pid, WUNTRACED | WNOHANG);
    R(kill(-pid, SIGCONT));
    state(pid, WCONTINUED);
    state(pid, WCONTINUED | WNOHANG);
    type("\032");
    siginfo_t info;
    R(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT));
    R(info.si_code);
    R(info.si_status);
    R(waitid(P_PID, pid, &info, WSTOPPED));
    R(kill(pid, SIGCONT));
    R(waitid(P_PID, pid, &info, WCONTINUED));
    R(info.si_code);
    R(info.si_status);
    nap();
    listen_to(SIGCHLD, SA_RESTART);
    count = 0;
    R(kill(pid, SIGSTOP));
    nap();
    R(count);
    R(told.si_code);
    R(told.si_status);
    R(kill(pid, SIGCONT));
    nap();
    R(count);
    R(told.si_code);
    listen_to(SIGCHLD, SA_RESTART | SA_NOCLDSTOP);
    count = 0;
    R(kill(pid, SIGTSTP));
    nap();
    R(kill(pid, SIGCONT));
    nap();
    R(count);
    R(kill(pid, SIGSTOP));
    nap();
    R(kill(pid, SIGTERM));
    nap();
    state(pid, WNOHANG);
    R(kill(pid, SIGCONT));
    state(pid, 0);
    R(count);
    signal(SIGCHLD, SIG_DFL);
    pid = job(1, sleeps);
    count = 0;
    listen_to(SIGWINCH, 0);
    struct winsize w = {5, 6, 0, 0};
    R(ioctl(m, TIOCSWINSZ, &w));
    R(count);
    signal(SIGTTOU, SIG_IGN);
    R(tcsetpgrp(s, getpgrp()));
    R(ioctl(m, TIOCSWINSZ, &w));
    R(count);
    w.ws_row = 9;
    R(ioctl(m, TIOCSWINSZ, &w));
    nap();
    R(count);
    R(last);
    R(ioctl(m, TIOCSIG, SIGINT));
    nap();
    R(last);
    R(ioctl(m, TIOCSIG, 99));
    gone(pid);
}

static void background(void)
{
    struct termios t;
    pid_t pid = job(0, reads);
    state(pid, WUNTRACED);
    signal(SIGTTOU, SIG_IGN);
    R(tcsetpgrp(s, pid));
    signal(SIGTTOU, SIG_DFL);
    type("for the job\n");
    kill(-pid, SIGCONT);
    state(pid, 0);
    signal(SIGTTOU, SIG_IGN);
    R(tcsetpgrp(s, getpgrp()));
    signal(SIGTTOU, SIG_DFL);
    state(job(0, reads_ignoring), 0);
    state(job(0, reads_blocking), 0);
    state(job(0, reads_handling), 0);
    state(job(0, writes), 0);
    tcgetattr(s, &t);
    t.c_lflag |= TOSTOP;
    R(tcsetattr(s, TCSANOW, &t));
    pid = job(0, writes);
    state(pid, WUNTRACED);
    gone(pid);
    state(job(0, writes_ignoring), 0);
    t.c_lflag &= ~TOSTOP;
    R(tcsetattr(s, TCSANOW, &t));
    pid = job(0, sets);
    state(pid, WUNTRACED);
    gone(pid);
    pid = job(0, takes);
    state(pid, WUNTRACED);
    gone(pid);
    pid = job(0, flushes);
    state(pid, WUNTRACED);
    gone(pid);
    state(job(0, takes_ignoring), 0);
    R(tcgetpgrp(s) == getpgrp());
    signal(SIGTTIN, SIG_DFL);
    pid = fork();
    if (!pid)
        reads(), _exit(0);
    state(pid, WUNTRACED);
}

static void orphans(void)
{
    pid_t pid = fork();
    if (!pid) {
        setpgid(0, 0);
        pid = fork();
        if (pid)
            _exit(0);
        while (getppid() != 1 && kill(getppid(), 0) == 0 && getsid(getppid()) == getsid(0))
            nap();
        nap();
        reads();
        R(write(s, "x", 1));
        sets();
        takes();
        R(raise(SIGTSTP));
        _exit(0);
    }
    ended(pid);
    usleep(100000);
    /* a stopped member of a group that becomes orphaned gets SIGHUP and SIGCONT */
    pid = fork();
    if (!pid) {
        setpgid(0, 0);
        pid = fork();
        if (!pid) {
            listen_to(SIGHUP, 0);
            raise(SIGSTOP);
            nap();
            R(count);
            R(last);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, WUNTRACED);
        _exit(0);
    }
    ended(pid);
    usleep(100000);
}

static void leader_ends(void)
{
    pid_t pid = job(1, sleeps);
    if (!fork()) {
        setpgid(0, 0);
        signal(SIGHUP, SIG_IGN);
        usleep(40000);
        R(kill(pid, 0));
        R(open("/dev/tty", O_RDWR));
        R(tcgetpgrp(s));
        _exit(0);
    }
    listen_to(SIGHUP, 0);
    _exit(3);
}

static void gives_up(void)
{
    listen_to(SIGHUP, 0), listen_to(SIGCONT, 0);
    R(ioctl(s, TIOCNOTTY, 0));
    R(count);
    R(open("/dev/tty", O_RDWR));
    R(tcgetpgrp(s));
    R(write(s, "x", 1));
    R(ioctl(s, TIOCSCTTY, 0));
    R(tcgetpgrp(s) == getpgrp());
    char c = 'z';
    struct termios t;
    tcgetattr(s, &t);
    t.c_lflag &= ~ICANON;
    tcsetattr(s, TCSANOW, &t);
    R(ioctl(s, TIOCSTI, &c));
    R(ioctl(s, TIOCSTI, 8));
    nap();
    R(read(s, &c, 1));
    R(c);
}

static void hang_up(void)
{
    listen_to(SIGHUP, SA_RESTART), listen_to(SIGCONT, SA_RESTART);
    pid_t pid = job(1, sleeps);
    char path2[64];
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    unlockpt(master);
    ptsname_r(master, path2, sizeof path2);
    pid_t leader = fork();
    if (!leader) {
        setsid();
        close(m);
        int t = open(path2, O_RDWR);
        R(tcgetsid(t) == getpid());
        pid_t child = fork();
        if (!child) {
            close(master);
            setpgid(0, 0);
            sleeps();
        }
        setpgid(child, child);
        R(tcsetpgrp(t, child));
        close(master);
        for (int i = 0; i < 10; i++)
            nap();
        R(count);
        R(read(t, buffer, 1));
        R(write(t, "x", 1));
        R(open("/dev/tty", O_RDWR));
        R(kill(child, 0));
        gone(child);
        _exit(0);
    }
    close(master);
    ended(leader);
    R(ioctl(s, TIOCVHANGUP, 0));
    gone(pid);
}

int main(void)
{
    begin();
    session("controlling", controlling);
    session("keyboard", keyboard);
    session("background", background);
    session("orphans", orphans);
    session("leader ends", leader_ends);
    usleep(80000);
    session("gives up", gives_up);
    session("hang up", hang_up);
    return 0;
}
