/* Self-modifying code: a function rewritten between calls, inside its own loop, and on the page of its data. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int main(void) {
    unsigned char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int sum = 0;
    if (page == MAP_FAILED) return 1;
    for (int i = 0; i < 300; i++) {
        unsigned char code[] = {0xb8, (unsigned char)i, 0, 0, 0, 0xc3}; /* mov eax, i; ret */
        memcpy(page, code, sizeof code);
        sum += ((int (*)(void))page)();
    }
    printf("%d\n", sum);
    /* xor eax,eax; mov ecx,10; again: inc eax; mov byte [again], 0x48; loop again; ret: one inc, then nine dec */
    unsigned char loop[] = {0x31, 0xc0, 0xb9, 10, 0, 0, 0, 0x40, 0xc6, 0x05, 0, 0, 0, 0, 0x48, 0xe2, 0xf6, 0xc3};
    unsigned at = (unsigned)page + 100 + 7;
    memcpy(loop + 10, &at, 4);
    memcpy(page + 100, loop, sizeof loop);
    printf("%d\n", ((int (*)(void))(page + 100))());
    /* mov byte [next], 0xb0 where next: mov al, 1 is already fetched: the new immediate counts */
    unsigned char ahead[] = {0x31, 0xc0, 0xc6, 0x05, 0, 0, 0, 0, 77, 0xb0, 1, 0xc3};
    at = (unsigned)page + 300 + 10;
    memcpy(ahead + 4, &at, 4);
    memcpy(page + 300, ahead, sizeof ahead);
    printf("%d\n", ((int (*)(void))(page + 300))());
    return 0;
}
