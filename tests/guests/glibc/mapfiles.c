// Maps every file of /files, and prints how many showed what they begin with; then each alone, unmapped before the next.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int pass(int keep)
{
    struct dirent *entry;
    int shown = 0;
    DIR *directory = opendir("/files");
    while ((entry = readdir(directory)) != NULL) {
        char path[300];
        struct stat s;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/files/%s", entry->d_name);
        int fd = open(path, O_RDONLY);
        fstat(fd, &s);
        char *there = mmap(NULL, s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (there == MAP_FAILED)
            perror("mmap");
        else if (there[0] == entry->d_name[0] && there[s.st_size - 1] == entry->d_name[0])
            shown++;
        if (!keep)
            munmap(there, s.st_size);
    }
    closedir(directory);
    return shown;
}

int main(void)
{
    printf("%d\n", pass(0));
    printf("%d\n", pass(1));
    printf("%d\n", pass(0));
    return malloc(1 << 20) == NULL;
}
