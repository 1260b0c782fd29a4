/* Passes messages on, in a ring of processes: SEED ROUNDS NUMBER. Number 0 begins. Each reads standard input and writes
 * standard output; what it read, as a sum, goes to standard error at the end. Messages have all sizes and are read to
 * all kinds of places: one that is used again and again, new pages, the end of a mapping, code. With seed 0 all are
 * short, and written and read at once. */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST = 60000, PAGE = 4096 };

static uint32_t state, sum, reads;
static unsigned char message[MOST + 16];

static uint32_t chance(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static void say(uint32_t round, int calm) {
    uint32_t n = calm ? 10 + chance(40) : chance(10) ? 10 + chance(5000) : 10 + chance(MOST - 10);
    unsigned char *at = message + (calm ? 0 : chance(16));
    uint32_t value = sum * 2654435761u + round;
    memcpy(at, &n, 4);
    at[4] = 0xB8; /* MOV EAX, value */
    memcpy(at + 5, &value, 4);
    at[9] = 0xC3; /* RET */
    for (uint32_t i = 10; i < n; i++) at[i] = (unsigned char)(value >> i % 13);
    uint32_t split = calm || chance(8) ? n : 1 + chance(n);
    for (uint32_t sent = 0; sent < n; split = n - sent) {
        ssize_t done = write(1, at + sent, split);
        if (done <= 0) exit(3);
        sent += (uint32_t)done;
    }
}

static unsigned char *hear(unsigned char *place, uint32_t room, int calm) {
    uint32_t got = 0, n = 4;
    while (got < n) {
        if (!calm && ++reads % 6 == 0) {
            struct pollfd wait = {.fd = 0, .events = POLLIN};
            if (poll(&wait, 1, -1) != 1) exit(4);
        }
        ssize_t done = read(0, place + got, room - got);
        if (done <= 0) exit(5);
        got += (uint32_t)done;
        if (got >= 4) memcpy(&n, place, 4);
    }
    if (got != n) exit(6);
    for (uint32_t i = 0; i < n; i++) sum = sum * 31 + place[i];
    return place;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    uint32_t rounds = (uint32_t)atoi(argv[2]), number = (uint32_t)atoi(argv[3]);
    uint32_t seed = (uint32_t)atoi(argv[1]);
    state = 1 + seed * 8 + number;
    static unsigned char usual[MOST + PAGE];
    unsigned char *code = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *edge = mmap(NULL, 17 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(edge + 16 * PAGE, PAGE, PROT_NONE);
    unsigned char *fresh = NULL;
    for (uint32_t round = 0; round < rounds; round++) {
        int calm = seed == 0 || round / 64 % 4 != 3;
        if (number == 0) say(round, calm);
        switch (calm ? round / 256 % 2 * 3 : chance(4)) {
        case 0: hear(usual, MOST + PAGE, calm); break;
        case 1:
            if (fresh) munmap(fresh, 16 * PAGE);
            fresh = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            hear(fresh, 16 * PAGE, calm);
            break;
        case 2: hear(edge + chance(9), 17 * PAGE, calm); break;
        case 3: sum += ((uint32_t(*)(void))(hear(code, 16 * PAGE, calm) + 4))(); break;
        }
        if (!calm && !chance(5)) sum += getpid() == 0;
        if (number != 0) say(round, calm);
    }
    fprintf(stderr, "%u: %08x\n", number, sum);
    return 0;
}
