/* Copies standard input to standard output in upper case, a byte buffer on the stack; status: bytes read, modulo 256. */
    .globl _start
_start:
    subl $512, %esp
    xorl %ebp, %ebp             /* how many so far */
read:
    movl $3, %eax
    xorl %ebx, %ebx
    movl %esp, %ecx
    movl $512, %edx
    int $0x80
    testl %eax, %eax
    jle done
    addl %eax, %ebp
    movl %eax, %edx
    movl %eax, %ecx
    movl %esp, %esi
    movl %esp, %edi
next:
    lodsb
    cmpb $'a', %al
    jb keep
    cmpb $'z', %al
    ja keep
    andb $0xdf, %al
keep:
    stosb
    loop next
    movl $4, %eax
    movl $1, %ebx
    movl %esp, %ecx
    int $0x80
    jmp read
done:
    movl %ebp, %ebx
    andl $255, %ebx
    movl $1, %eax
    int $0x80
