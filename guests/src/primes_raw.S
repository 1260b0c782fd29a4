/* Prints the primes below 100 with 8-bit and 16-bit arithmetic and the decimal adjust instructions, in raw assembly. */
    .globl _start
_start:
    subl $256, %esp
    movl %esp, %edi
    movw $2, %cx
candidate:
    movw $2, %bx
divide:
    movw %bx, %ax
    mulw %bx
    cmpw %cx, %ax
    ja prime
    movw %cx, %ax
    divb %bl
    testb %ah, %ah
    jz next
    incw %bx
    jmp divide
prime:
    movb %cl, %al
    aam                         /* ah = tens, al = units */
    addw $0x3030, %ax
    cmpb $'0', %ah
    je units
    movb %ah, (%edi)
    incl %edi
units:
    stosb
    movb $' ', %al
    stosb
next:
    incw %cx
    cmpw $100, %cx
    jb candidate
    movb $'\n', -1(%edi)
    movl %esp, %ecx
    movl %edi, %edx
    subl %ecx, %edx
    movl $1, %ebx
    movl $4, %eax
    int $0x80
    movl $1, %eax
    xorl %ebx, %ebx
    int $0x80
