/* An interpreter of a small stack machine that runs a Collatz search; argument: up to which number. A benchmark. */
#include "guest.h"

enum { PUSH, LOAD, STORE, ADD, SUB, MUL, SHR, AND, LESS, EQUAL, JUMP, JUMP_IF_ZERO, HALT };

/* best = best_start = 0; for (start = 1; start < limit; start++) { for (n = start, steps = 0; n != 1; steps++) n = n & 1 ?
 * 3 * n + 1 : n >> 1; if (best < steps) best = steps, best_start = start; } Variables: 0 limit, 1 start, 2 n, 3 steps, 4 best,
 * 5 best_start. */
static const u8 program[] = {
    PUSH, 1, STORE, 1,
    /* 4 */ LOAD, 1, LOAD, 0, LESS, JUMP_IF_ZERO, 77,
    LOAD, 1, STORE, 2, PUSH, 0, STORE, 3,
    /* 19 */ LOAD, 2, PUSH, 1, EQUAL, JUMP_IF_ZERO, 29, JUMP, 55, HALT,
    /* 29 */ LOAD, 2, PUSH, 1, AND, JUMP_IF_ZERO, 68,
    LOAD, 2, PUSH, 3, MUL, PUSH, 1, ADD, STORE, 2,
    /* 46 */ LOAD, 3, PUSH, 1, ADD, STORE, 3, JUMP, 19,
    /* 55 */ LOAD, 4, LOAD, 3, LESS, JUMP_IF_ZERO, 78, LOAD, 3, STORE, 4, JUMP, 87,
    /* 68 */ LOAD, 2, PUSH, 1, SHR, STORE, 2, JUMP, 46,
    /* 77 */ HALT,
    /* 78 */ LOAD, 1, PUSH, 1, ADD, STORE, 1, JUMP, 4,
    /* 87 */ LOAD, 1, STORE, 5, JUMP, 78,
};

static u32 run(const u8 *code, u32 *variables) {
    u32 stack[16], *sp = stack, executed = 0;
    for (const u8 *pc = code;; executed++) {
        switch (*pc++) {
            case PUSH: *sp++ = *pc++; break;
            case LOAD: *sp++ = variables[*pc++]; break;
            case STORE: variables[*pc++] = *--sp; break;
            case ADD: sp--, sp[-1] += *sp; break;
            case SUB: sp--, sp[-1] -= *sp; break;
            case MUL: sp--, sp[-1] *= *sp; break;
            case SHR: sp--, sp[-1] >>= *sp; break;
            case AND: sp--, sp[-1] &= *sp; break;
            case LESS: sp--, sp[-1] = sp[-1] < *sp; break;
            case EQUAL: sp--, sp[-1] = sp[-1] == *sp; break;
            case JUMP: pc = code + *pc; break;
            case JUMP_IF_ZERO: pc = *--sp ? pc + 1 : code + *pc; break;
            default: return executed;
        }
    }
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 variables[6] = {scale(argc, argv, 60)};
    u32 executed = run(program, variables);
    put("the longest chain below "), put_unsigned(variables[0]), put(" starts at "), put_unsigned(variables[5]);
    put(" and has "), put_unsigned(variables[4]), put(" steps; "), put_unsigned(executed), put(" operations\n");
    return 0;
}
