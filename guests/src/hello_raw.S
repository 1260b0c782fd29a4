/* Hello in raw assembly, position-independent: linked as an ELF file and as a flat binary. */
    .globl _start
_start:
    call 1f
    .ascii "Hello from raw assembly\n"
    .equ size, . - (_start + 5)
1:  popl %ecx
    movl $size, %edx
    movl $1, %ebx
    movl $4, %eax
    int $0x80
    xorl %ebx, %ebx
    movl $1, %eax
    int $0x80
