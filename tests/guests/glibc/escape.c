/* Tries to reach what is behind each path on standard input (each ends with a NUL byte) in every way that Linux has, and
   writes what it could read. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void show(int fd) {
    char data[200];
    ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data);
    if (n > 0) fwrite(data, 1, n, stdout);
    if (fd >= 0) close(fd);
}

static void try_path(const char *path) {
    char target[4096];
    struct stat st;
    show(open(path, O_RDONLY | O_NONBLOCK));
    show(open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    show(openat(AT_FDCWD, path, O_PATH));
    stat(path, &st), lstat(path, &st), access(path, R_OK);
    ssize_t n = readlink(path, target, sizeof target);
    (void)n;
    DIR *d = opendir(path);
    if (d) {
        struct dirent *e;
        for (int k = 0; k < 20 && (e = readdir(d)); k++) puts(e->d_name);
        closedir(d);
    }
    int w = open(path, O_WRONLY | O_NONBLOCK);
    if (w >= 0) close(w);
    unlink("/g/hop"), symlink(path, "/g/hop");
    show(open("/g/hop", O_RDONLY | O_NONBLOCK));
    unlink("/g/hop"), link(path, "/g/hop"), show(open("/g/hop", O_RDONLY | O_NONBLOCK)), unlink("/g/hop");
    rename(path, "/g/hop"), rename("/g/hop", path);
    mkdir(path, 0700), rmdir(path);
    mount(path, "/g", "none", MS_BIND, 0);
    if (!chdir(path)) show(open("secret", O_RDONLY)), show(open("../secret", O_RDONLY)), chdir("/");
    if (!chroot(path)) show(open("/secret", O_RDONLY)), chroot(".");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strncpy(un.sun_path, path, sizeof un.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s >= 0) connect(s, (void *)&un, sizeof un), close(s);
}

static void try_addresses(void) {
    static const char *const hosts[] = {"127.0.0.1", "127.0.0.53", "10.0.0.1", "169.254.169.254", "8.8.8.8", "0.0.0.0", "255.255.255.255"};
    static const int ports[] = {22, 53, 80, 443, 2024, 8080};
    for (unsigned h = 0; h < sizeof hosts / sizeof *hosts; h++)
        for (unsigned p = 0; p < sizeof ports / sizeof *ports; p++)
            for (int type = SOCK_STREAM; type <= SOCK_RAW; type++) {
                struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(ports[p])};
                inet_pton(AF_INET, hosts[h], &in.sin_addr);
                int s = socket(AF_INET, type | SOCK_NONBLOCK, 0);
                if (s < 0) continue;
                connect(s, (void *)&in, sizeof in);
                send(s, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
                close(s);
            }
}

int main(void) {
    static char all[64 << 20];
    size_t size = 0, at = 0;
    ssize_t n;
    while (size < sizeof all && (n = read(0, all + size, sizeof all - size)) > 0) size += n; /* some paths are this pipe */
    long count = 0;
    try_addresses();
    for (; at < size; at += strlen(all + at) + 1) try_path(all + at), count++;
    printf("\n%ld paths tried\n", count);
    return 0;
}
