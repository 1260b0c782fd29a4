/* Pseudo-terminals: their names and locks, the line discipline's modes one by one, raw reads, flow, packet mode. */
#include "calls.h"
#include <ctype.h>
#include <sys/ioctl.h>
#include <termios.h>

static int m, s;
static char path[64];

static void nap(void) { usleep(4000); } /* Linux takes in what is typed in a worker of its own */

static void bytes(const char *what, const char *data, int n)
{
    printf("%s: ", what);
    if (n < 0) {
        printf("%s\n", strerrorname_np(errno));
        return;
    }
    for (int i = 0; i < n; i++)
        if (data[i] == '\\' || !isprint((unsigned char)data[i]))
            printf("\\%03o", (unsigned char)data[i]);
        else
            putchar(data[i]);
    printf(" (%d)\n", n);
}

static void type(const char *keys)
{
    write(m, keys, strlen(keys));
    nap();
}

static void shown(void)
{
    int n;
    nap();
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    n = read(m, buffer, 8000);
    bytes("shown", buffer, n);
    fcntl(m, F_SETFL, O_RDWR);
}

static void got(int size)
{
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    bytes("read", buffer, read(s, buffer, size));
    fcntl(s, F_SETFL, O_RDWR);
}

static void keys(const char *typed)
{
    printf("typed ");
    bytes("", typed, strlen(typed));
    type(typed);
    shown();
    got(1000);
}

static void modes(int in, int out, int local)
{
    struct termios t;
    tcgetattr(s, &t);
    t.c_iflag = in, t.c_oflag = out, t.c_lflag = local;
    printf("modes %o %o %o\n", in, out, local);
    tcsetattr(s, TCSANOW, &t);
}

static void say(const char *text)
{
    write(s, text, strlen(text));
    shown();
}

static void names(void)
{
    struct stat st;
    int n = -1, on = 1;
    m = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    R(m >= 0);
    R(isatty(m));
    R(ioctl(m, TIOCGPTN, &n));
    R(n >= 0);
    R(ptsname_r(m, path, sizeof path));
    R(strncmp(path, "/dev/pts/", 9));
    R(ioctl(m, TIOCGPTLCK, &n));
    R(n);
    R(open(path, O_RDWR | O_NOCTTY));
    R(write(m, "x", 1));
    R(grantpt(m));
    R(unlockpt(m));
    R(ioctl(m, TIOCGPTLCK, &n));
    R(n);
    R(ioctl(m, TIOCSPTLCK, &on));
    R(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    on = 0;
    R(ioctl(m, TIOCSPTLCK, &on));
    s = open(path, O_RDWR | O_NOCTTY);
    R(isatty(s));
    R(fstat(s, &st));
    R(S_ISCHR(st.st_mode));
    R(st.st_rdev >> 8);
    R(st.st_uid == getuid());
    R(stat(path, &st));
    R(strcmp(ttyname(s), path));
    R(ttyname_r(m, path + 32, 20));
    int peer = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    R(strcmp(ttyname(peer), path));
    R(fcntl(peer, F_GETFD));
    R(close(peer));
    R(ioctl(s, TIOCGPTN, &n));
    R(ioctl(s, TIOCSPTLCK, &on));
    R(lseek(s, 0, SEEK_SET));
    R(pread(s, buffer, 1, 0));
    R(ioctl(s, 0x5499, 0));
    R(ioctl(s, TCGETS, 8));
    R(ioctl(s, TIOCGWINSZ, 8));
    R(open("/dev/pts/nothing", O_RDWR));
    R(open("/dev/tty", O_RDWR));
    R(ftruncate(s, 0));
    R(fsync(s));
}

static void attributes(void)
{
    struct termios t;
    struct winsize w = {11, 22, 33, 44};
    R(tcgetattr(s, &t));
    printf("%o %o %o %o %d\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_line);
    bytes("characters", (char *)t.c_cc, 19);
    R(tcgetattr(m, &t));
    printf("%o %o %o %o %d\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_line);
    R(ioctl(s, TIOCGWINSZ, &w));
    printf("%d %d %d %d\n", w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel);
    w.ws_row = 50, w.ws_col = 132;
    R(ioctl(m, TIOCSWINSZ, &w));
    memset(&w, 0, sizeof w);
    R(ioctl(s, TIOCGWINSZ, &w));
    printf("%d %d\n", w.ws_row, w.ws_col);
    memset(buffer, 0, 100);
    R(ioctl(s, 0x802C542A, buffer)); /* TCGETS2 */
    printf("%u %u\n", *(unsigned *)(buffer + 36), *(unsigned *)(buffer + 40));
    R(ioctl(s, TCGETA, buffer));
    printf("%o %o\n", ((unsigned short *)buffer)[0], ((unsigned short *)buffer)[3]);
    R(cfgetospeed(&t) == B38400);
}

static void canonical(void)
{
    int all = ICANON | ISIG | IEXTEN | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE;
    modes(ICRNL | IXON, OPOST | ONLCR, all);
    keys("one\r");
    keys("two\n");
    keys("ab\177c\n");
    keys("abc\177\177\177\177\177x\n");
    keys("hello big world\027\027x\n");
    keys("kill me\025new\n");
    keys("a\tb\177\177\177c\n");
    keys("\001\002\177x\n");
    keys("lit\026\003\026\177\n");
    keys("rep\022rint\n");
    keys("part");
    got(10);
    keys("\004");
    keys("\004");
    keys("abc\004");
    keys("line1\nline2\n");
    got(100);
    type("longer line\n");
    got(4), got(4), got(3), got(100);
    type("abc\004");
    got(3), got(3);
    type("eof\004\004");
    got(100), got(100), got(100);
    int n = -1;
    type("count\nmore");
    R((ioctl(s, FIONREAD, &n), n));
    R((ioctl(m, FIONREAD, &n), n > 0));
    R(ioctl(s, TIOCOUTQ, &n));
    type("\n");
    R((ioctl(s, FIONREAD, &n), n));
    R(tcflush(s, TCIFLUSH));
    got(100);
    shown();
    modes(ICRNL, OPOST | ONLCR, all & ~ECHOKE);
    keys("kill me\025new\n");
    modes(ICRNL, OPOST | ONLCR, all & ~(ECHOE | ECHOKE));
    keys("abc\177d\n");
    modes(ICRNL, OPOST | ONLCR, all & ~ECHOCTL);
    keys("a\002b\177\177\177c\n");
    modes(ICRNL, OPOST | ONLCR, (all | ECHOPRT) & ~ECHOKE);
    keys("abc\177\177d\n");
    modes(ICRNL, OPOST | ONLCR, (all & ~ECHO) | ECHONL);
    keys("quiet\n");
    modes(ICRNL, OPOST | ONLCR, all & ~IEXTEN);
    keys("no\027word\026x\n");
    modes(ICRNL | IUTF8, OPOST | ONLCR, all);
    keys("h\303\251\342\202\254\177\177x\n");
    modes(ICRNL, OPOST | ONLCR, all);
    keys("h\303\251\177\177x\n");
    struct termios t;
    tcgetattr(s, &t);
    t.c_cc[VEOL] = ';', t.c_cc[VEOL2] = '!', t.c_cc[VERASE] = '#', t.c_cc[VEOF] = 0;
    tcsetattr(s, TCSANOW, &t);
    keys("one;two!x#y\n\004\n");
    got(100), got(100), got(100);
    t.c_cc[VEOL] = 0, t.c_cc[VEOL2] = 0, t.c_cc[VERASE] = 127, t.c_cc[VEOF] = 4;
    tcsetattr(s, TCSANOW, &t);
    memset(big, 'x', 5000);
    R(write(m, big, 5000));
    nap();
    type("\n");
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    R(read(s, buffer, 8000));
    R(buffer[4093] == 'x' && buffer[4094] == '\n');
    fcntl(s, F_SETFL, O_RDWR);
    tcflush(m, TCIFLUSH);
    while (fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK), read(m, buffer, 8000) > 0)
        nap();
    fcntl(m, F_SETFL, O_RDWR);
}

static void input_modes(void)
{
    modes(0, 0, ICANON);
    keys("cr\rlf\n");
    modes(INLCR, 0, ICANON);
    keys("a\nb\004");
    modes(IGNCR, 0, ICANON);
    keys("a\rb\n");
    modes(ISTRIP, 0, ICANON);
    keys("\301\342\n");
    modes(IUCLC, 0, ICANON | IEXTEN);
    keys("ABC\n");
    modes(PARMRK, 0, ICANON);
    keys("a\377b\n");
    modes(0, 0, ICANON | ECHO);
    keys("echo\n");
    modes(0, 0, ICANON | ECHO | ECHOCTL);
    keys("\001\002\n");
}

static void output_modes(void)
{
    modes(0, 0, 0);
    say("raw\n\r\t\b\001");
    modes(0, OPOST, 0);
    say("post\n");
    modes(0, OPOST | ONLCR, 0);
    say("a\nb\n");
    modes(0, OPOST | OCRNL, 0);
    say("a\rb\n");
    modes(0, OPOST | ONOCR, 0);
    say("\n\r");
    say("x\r\ry\r");
    modes(0, OPOST | ONLRET, 0);
    say("abc\n\tx\n");
    modes(0, OPOST | OLCUC, 0);
    say("upper\n");
    modes(0, OPOST | ONLCR | XTABS, 0);
    say("\n\ta\tbcdefghi\tj\b\b\tk\n");
}

static void raw_reads(void)
{
    struct termios t;
    struct pollfd p = {s, POLLIN | POLLOUT, 0};
    modes(0, 0, 0);
    tcgetattr(s, &t);
    t.c_cc[VMIN] = 1, t.c_cc[VTIME] = 0;
    tcsetattr(s, TCSANOW, &t);
    keys("bytes\003\004\r\n");
    t.c_cc[VMIN] = 0;
    tcsetattr(s, TCSANOW, &t);
    R(read(s, buffer, 10));
    got(10);
    type("ab");
    R(read(s, buffer, 10));
    t.c_cc[VTIME] = 1;
    tcsetattr(s, TCSANOW, &t);
    R(read(s, buffer, 10));
    pid_t pid = LATER(20, write(m, "x", 1));
    R(read(s, buffer, 10));
    ended(pid);
    t.c_cc[VMIN] = 3, t.c_cc[VTIME] = 0;
    tcsetattr(s, TCSANOW, &t);
    type("ab");
    R(poll(&p, 1, 0));
    R(p.revents);
    got(10);
    type("ab");
    pid = LATER(20, write(m, "cd", 2));
    R(read(s, buffer, 10));
    ended(pid);
    type("abcd");
    R(poll(&p, 1, 0));
    R(p.revents);
    R(read(s, buffer, 2));
    R(read(s, buffer, 2));
    on(SIGUSR1, 0);
    pid_t me = getpid();
    type("a");
    pid = LATER(20, kill(me, SIGUSR1));
    R(read(s, buffer, 10));
    ended(pid);
    pid = LATER(20, kill(me, SIGUSR1));
    R(read(s, buffer, 10));
    ended(pid);
    t.c_cc[VTIME] = 1;
    tcsetattr(s, TCSANOW, &t);
    type("ab");
    R(read(s, buffer, 10));
    p.events = POLLIN;
    type("z");
    R(poll(&p, 1, 0));
    R(read(s, (void *)8, 1));
    tcflush(s, TCIFLUSH);
    t.c_cc[VMIN] = 1, t.c_cc[VTIME] = 0;
    tcsetattr(s, TCSANOW, &t);
    type("kept\nfor canon");
    modes(0, 0, ICANON);
    got(100), got(100);
    type("line\nrest");
    modes(0, 0, 0);
    got(100);
    type("dropped");
    t.c_lflag = 0;
    R(tcsetattr(s, TCSAFLUSH, &t));
    got(10);
}

static void attempt(const char *text)
{
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    R(write(s, text, strlen(text)));
    fcntl(s, F_SETFL, O_RDWR);
}

static void flow(void)
{
    struct pollfd p = {s, POLLIN | POLLOUT, 0};
    modes(IXON, 0, 0);
    type("\023");
    R(poll(&p, 1, 0));
    attempt("held");
    type("x");
    attempt("held");
    type("\021");
    attempt("free");
    shown();
    got(10);
    modes(IXON | IXANY, 0, 0);
    type("\023");
    attempt("held");
    type("y");
    attempt("any");
    shown();
    got(10);
    R(tcflow(s, TCOOFF));
    attempt("held");
    type("\021");
    attempt("held");
    R(tcflow(s, TCOON));
    attempt("free");
    shown();
    R(tcflow(s, TCIOFF));
    R(tcflow(s, TCION));
    shown();
    R(tcflow(s, 9));
    R(tcflush(s, 9));
    R(tcdrain(s));
    R(tcsendbreak(s, 0));
    type("\023");
    modes(0, 0, 0);
    attempt("set free");
    shown();
    got(10);
    int n = 0;
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    while (write(s, big, 1000) > 0)
        n++;
    R(n > 3 && n < 100);
    R(errno);
    p.fd = m;
    R(poll(&p, 1, 0));
    R(p.revents);
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    while (read(m, buffer, 8000) > 0 || (nap(), read(m, buffer, 8000) > 0))
        ;
    R(errno);
    attempt("room");
    shown();
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    n = 0;
    while (write(m, big, 1000) > 0 && n < 1000)
        n++, nap();
    R(n > 3 && n < 200);
    R(errno);
    fcntl(m, F_SETFL, O_RDWR), fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    while (read(s, buffer, 8000) > 0 || (nap(), read(s, buffer, 8000) > 0))
        ;
    fcntl(s, F_SETFL, O_RDWR);
}

static void packets(void)
{
    int on = 1, n = -1;
    struct pollfd p = {m, POLLIN | POLLPRI, 0};
    modes(IXON, 0, ISIG | ECHO);
    R(ioctl(m, TIOCPKT, &on));
    R((ioctl(m, TIOCGPKT, &n), n));
    say("data");
    R(poll(&p, 1, 0));
    type("\023");
    R(poll(&p, 1, 0));
    R(p.revents);
    shown();
    type("\021");
    shown();
    tcflush(s, TCIFLUSH);
    shown();
    tcflush(s, TCIOFLUSH);
    shown();
    modes(0, 0, ISIG | ECHO);
    shown();
    modes(IXON, 0, ISIG | ECHO);
    shown();
    type("\003");
    shown(), shown();
    write(s, "abc", 3);
    nap();
    R(read(m, buffer, 1));
    R(buffer[0]);
    R(read(m, buffer, 3));
    shown();
    on = 0;
    R(ioctl(m, TIOCPKT, &on));
    say("plain");
}

static void closing(void)
{
    struct pollfd p = {m, POLLIN | POLLOUT, 0};
    write(s, "last words", 10);
    R(close(s));
    nap();
    R(poll(&p, 1, 0));
    R(p.revents);
    shown();
    R(read(m, buffer, 10));
    R(write(m, "x", 1));
    nap();
    R(poll(&p, 1, 0));
    R(p.revents);
    s = open(path, O_RDWR | O_NOCTTY);
    R(poll(&p, 1, 0));
    R(p.revents);
    say("again");
    pid_t pid = LATER(20, (close(s), exit(0)));
    close(s);
    R(read(m, buffer, 10));
    ended(pid);
    s = open(path, O_RDWR | O_NOCTTY);
    int other = open(path, O_RDWR | O_NOCTTY);
    close(m);
    p.fd = s;
    R(poll(&p, 1, 0));
    R(p.revents);
    R(read(s, buffer, 10));
    R(write(s, "x", 1));
    R(ioctl(s, TCGETS, buffer));
    R(ioctl(s, TIOCSPGRP, buffer));
    R(isatty(s));
    R(open(path, O_RDWR));
    R(access(path, F_OK));
    R(close(other));
    R(close(s));
}

int main(void)
{
    begin();
    on(SIGINT, 0);
    names();
    attributes();
    canonical();
    input_modes();
    output_modes();
    raw_reads();
    flow();
    packets();
    closing();
    return 0;
}
