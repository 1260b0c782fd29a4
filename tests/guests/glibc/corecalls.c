/* Core dumps: which signals, limits and attributes make one, and what is in it. */
#include "calls.h"
#include <elf.h>
#include <sys/procfs.h>

static char secret[8192] = "what is in memory at the end";
static char core[1 << 24];
static int size;
static siginfo_t told;

static void tell(int signal, siginfo_t *info, void *context) { (void)signal, (void)context, told = *info; }

static int dies(void (*what)(void), int limit)
{
    struct rlimit r = {limit, RLIM_INFINITY};
    struct stat st = {0};
    int status = 0;
    unlink("core");
    told.si_code = 0;
    pid_t pid = fork();
    if (!pid) {
        setrlimit(RLIMIT_CORE, &r);
        what();
        _exit(0);
    }
    while (waitpid(pid, &status, 0) != pid)
        ;
    R(WTERMSIG(status));
    R(!!WCOREDUMP(status));
    R(told.si_code);
    R(stat("core", &st));
    if (!stat("core", &st)) {
        printf("mode %o\n", st.st_mode);
        R(st.st_size > 4096);
    }
    return pid;
}

static void aborts(void) { abort(); }
static void faults(void) { *(volatile int *)0x10 = 1; }
static void divides(void)
{
    volatile int zero = 0;
    zero = 1 / zero;
}
static void quits(void) { raise(SIGQUIT); }
static void terminates(void) { raise(SIGTERM); }
static void killed(void) { raise(SIGKILL); }
static void hides(void)
{
    prctl(PR_SET_DUMPABLE, 0);
    abort();
}
static void elsewhere(void)
{
    chdir("/proc");
    abort();
}
static void links(void)
{
    symlink("/tmp/nothing", "core");
    abort();
}
static void fails(void)
{
    __asm__ volatile("mov $0x11111111, %%ebx\n\tmov $0x22222222, %%esi\n\tfld1\n\tmovl $1, 0x10" : : : "ebx", "esi");
}

static void notes(const Elf32_Phdr *header, pid_t pid)
{
    char *at = core + header->p_offset, *end = at + header->p_filesz;
    while (at < end) {
        Elf32_Nhdr *note = (Elf32_Nhdr *)at;
        char *name = at + sizeof *note, *data = name + ((note->n_namesz + 3) & ~3);
        if (strcmp(name, "CORE") == 0)
            printf("note %#x, %s\n", note->n_type, name);
        switch (note->n_type) {
        case NT_PRSTATUS: {
            struct elf_prstatus *s = (void *)data;
            R(note->n_descsz);
            R(s->pr_cursig);
            R(s->pr_info.si_code);
            R(s->pr_pid == pid);
            R(s->pr_ppid == getpid());
            R(s->pr_reg[0]);
            R(s->pr_reg[3]);
            R(s->pr_reg[12] != 0);
            R(s->pr_reg[13]);
            R(s->pr_fpvalid);
            break;
        }
        case NT_PRPSINFO: {
            struct elf_prpsinfo *s = (void *)data;
            R(note->n_descsz);
            printf("%c\n", s->pr_sname);
            printf("'%.80s'\n", s->pr_psargs);
            R(s->pr_uid);
            R(s->pr_pid == pid);
            break;
        }
        case NT_SIGINFO: {
            siginfo_t *s = (void *)data;
            R(note->n_descsz);
            R(s->si_signo);
            R(s->si_code);
            R((long)s->si_addr);
            break;
        }
        case NT_AUXV: {
            unsigned *a = (void *)data;
            int found = 0;
            for (; *a; a += 2)
                found += a[0] == AT_PHDR || a[0] == AT_ENTRY || a[0] == AT_PAGESZ;
            R(found);
            break;
        }
        case NT_FILE:
            R(((unsigned *)data)[0] > 0);
            R(((unsigned *)data)[1]);
            break;
        case NT_PRFPREG:
            R(note->n_descsz);
            R(((unsigned short *)data)[4]);
            break;
        }
        at = data + ((note->n_descsz + 3) & ~3);
    }
}

static void content(void)
{
    pid_t pid = dies(fails, -1);
    int fd = open("core", O_RDONLY);
    size = read(fd, core, sizeof core);
    close(fd);
    Elf32_Ehdr *head = (void *)core;
    Elf32_Phdr *header = (void *)(core + head->e_phoff);
    R(memcmp(head->e_ident, ELFMAG, 4));
    R(head->e_type);
    R(head->e_machine);
    R(head->e_phentsize);
    R(header->p_type);
    notes(header, pid);
    int found = 0, stack = 0, text = 0, whole = 1;
    for (int i = 1; i < head->e_phnum; i++) {
        Elf32_Phdr *p = header + i;
        whole &= p->p_type == PT_LOAD && p->p_offset % 4096 == 0 && p->p_filesz <= p->p_memsz;
        if (p->p_vaddr <= (size_t)secret && (size_t)secret < p->p_vaddr + p->p_filesz)
            found = !strcmp(core + p->p_offset + ((size_t)secret - p->p_vaddr), secret);
        stack += p->p_vaddr <= (size_t)&fd && (size_t)&fd < p->p_vaddr + p->p_filesz;
        if (p->p_flags == (PF_R | PF_X) && p->p_vaddr <= (size_t)content && (size_t)content < p->p_vaddr + p->p_memsz)
            text = p->p_filesz < p->p_memsz;
    }
    R(whole);
    R(found);
    R(stack);
    R(text);
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    begin();
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    dies(aborts, -1);
    dies(aborts, 0);
    dies(aborts, 100);
    dies(aborts, 8192);
    dies(faults, -1);
    dies(divides, -1);
    dies(quits, -1);
    dies(terminates, -1);
    dies(killed, -1);
    dies(hides, -1);
    dies(elsewhere, -1);
    dies(links, -1);
    mkdir("core", 0700);
    dies(aborts, -1);
    rmdir("core");
    content();
    unlink("core");
    return 0;
}
