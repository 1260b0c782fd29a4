/* Programs with many arguments: how many are taken, and that they arrive. */
#include "calls.h"

static char *pointers[700001], small[] = "x";
extern char **environ;

static int started(int argc, char **argv)
{
    unsigned long sum = 0;
    int count = 0;
    for (int n = 0; n < argc; n++)
        sum = sum * 31 + strlen(argv[n]) + (unsigned char)argv[n][0];
    for (char **e = environ; *e; e++)
        sum = sum * 31 + strlen(*e), count++;
    printf("%d arguments, %d of the environment, %lu, aligned %d, in order %d\n", argc, count, sum, (unsigned long)argv % 4 == 0, argc < 2 || argv[argc - 1] - argv[1] == 2 * (argc - 2));
    return 7;
}

static void many(int arguments, int environment, unsigned long stack)
{
    struct rlimit limit = {stack, RLIM_INFINITY};
    pid_t pid;
    printf("-- %d, %d, %lu\n", arguments, environment, stack);
    if ((pid = fork()))
        return ended(pid);
    if (stack)
        setrlimit(RLIMIT_STACK, &limit);
    for (int n = 0; n < arguments; n++)
        pointers[n] = small;
    pointers[0] = "many", pointers[arguments] = NULL;
    char *none[] = {NULL}, *long_one[] = {"many", big, big, big, NULL}, **envp = environment ? calloc(environment + 1, sizeof *envp) : none;
    for (int n = 0; n < environment; n++)
        envp[n] = small;
    if (arguments)
        execve("/proc/self/exe", pointers, envp);
    else
        memset(big, 'y', 131071), execve("/proc/self/exe", long_one, envp), printf("then %d\n", errno), memset(big, 'y', 131072), execve("/proc/self/exe", long_one, envp);
    printf("%s\n", strerrorname_np(errno));
    _exit(0);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc && !strcmp(argv[0], "many"))
        return started(argc, argv);
    many(10, 3, 0), many(200000, 0, 0), many(100000, 100000, 0), many(209000, 0, 0), many(210000, 0, 0);
    many(13000, 0, 400000), many(13200, 0, 400000), many(620000, 0, 64 << 20), many(640000, 0, 64 << 20), many(0, 0, 0), many(0, 0, 1 << 20);
    return 0;
}
