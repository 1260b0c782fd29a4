/* Files and directories below /tmp: create, write, seek, rename, link, stat, list, remove; errors by name. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static void check(const char *what, long result) {
    printf("%s: %ld%s%s\n", what, result, result < 0 ? " " : "", result < 0 ? strerror(errno) : "");
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int main(void) {
    char directory[] = "/tmp/aiopyvm-XXXXXX", buffer[64], *names[16];
    struct stat info;
    int n = 0;
    if (!mkdtemp(directory) || chdir(directory)) return 1;
    int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
    check("open a again", open("a", O_CREAT | O_EXCL, 0600));
    struct iovec parts[2] = {{"hello, ", 7}, {"world\n", 6}};
    check("writev", writev(fd, parts, 2));
    check("lseek", lseek(fd, -6, SEEK_END));
    check("read", read(fd, buffer, sizeof buffer));
    check("pread", pread(fd, buffer, 5, 0));
    printf("%.5s\n", buffer);
    check("ftruncate", ftruncate(fd, 100));
    fstat(fd, &info);
    printf("size %ld mode %o links %u\n", (long)info.st_size, info.st_mode, (unsigned)info.st_nlink);
    close(fd);
    check("mkdir", mkdir("d", 0755));
    check("mkdir again", mkdir("d", 0755));
    check("link", link("a", "d/b"));
    check("symlink", symlink("d/b", "s"));
    check("stat", stat("s", &info));
    printf("links %u regular %d\n", (unsigned)info.st_nlink, S_ISREG(info.st_mode));
    check("lstat", lstat("s", &info));
    printf("symlink %d size %ld\n", S_ISLNK(info.st_mode), (long)info.st_size);
    check("readlink", readlink("s", buffer, sizeof buffer));
    check("rename", rename("a", "d/c"));
    check("rmdir full", rmdir("d"));
    check("open missing", open("a", O_RDONLY));
    check("open through a file", open("d/c/x", O_RDONLY));
    check("unlink a directory", unlink("d"));
    DIR *list = opendir("d");
    for (struct dirent *e; (e = readdir(list)) && n < 16;) names[n++] = strdup(e->d_name);
    closedir(list);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) printf("%s ", names[i]);
    printf("\n");
    FILE *f = fopen("text", "w+");
    for (int i = 0; i < 1000; i++) fprintf(f, "line %d\n", i);
    fseek(f, 0, SEEK_SET);
    for (int i = 0; fgets(buffer, sizeof buffer, f); i++)
        if (i == 999) printf("%s", buffer);
    fclose(f);
    check("unlink", unlink("d/b")), check("unlink", unlink("d/c")), check("unlink", unlink("s")), check("unlink", unlink("text"));
    check("rmdir", rmdir("d")), check("rmdir", rmdir(directory));
    return 0;
}
