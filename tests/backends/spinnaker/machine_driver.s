@ Runs parts of a SpiNNaker binary in qemu-arm: reads commands from stdin, writes answers to stdout. Linked beside the binary's own two images,
@ ITCM at 0 and DTCM at 0x400000 (machine_code.py writes the linker script). All numbers are words, little-endian:
@   'W' address n bytes              write
@   'R' address n                    read
@   'C' address r0 r1 r2 r3 s0 s1    call with four registers and two words on the stack; answers r0
        .arch armv5te
        .text
        .globl _start
_start: ldr     sp, =stack_top
        ldr     r10, =buffer
next:   mov     r0, #4
        bl      get_header
        ldr     r9, [r10]
        cmp     r9, #'C'
        moveq   r0, #28
        movne   r0, #8
        bl      get_header
        ldr     r0, [r10]               @ address
        ldr     r1, [r10, #4]           @ n, or the call's r0
        cmp     r9, #'W'
        bleq    get
        cmp     r9, #'R'
        bleq    put
        cmp     r9, #'C'
        bleq    call
        b       next

call:   push    {r9, r10, lr}
        sub     sp, sp, #8              @ keeps the stack at multiples of 8 with the three above and what follows
        push    {r10}
        sub     sp, sp, #8
        ldr     r0, [r10, #20]
        ldr     r1, [r10, #24]
        stm     sp, {r0, r1}
        ldr     r12, [r10]
        add     r1, r10, #4
        ldm     r1, {r0, r1, r2, r3}
        blx     r12
        add     sp, sp, #8
        pop     {r10}
        add     sp, sp, #8
        str     r0, [r10]
        mov     r0, r10
        mov     r1, #4
        bl      put
        pop     {r9, r10, pc}

@ get_header: n bytes into the buffer; get, put: r1 bytes at r0, in as many pieces as it takes; the end of stdin ends the program
get_header:
        mov     r1, r0
        mov     r0, r10
get:    mov     r7, #3
        mov     r5, #0
        b       move
put:    mov     r7, #4
        mov     r5, #1
move:   mov     r6, r0
        mov     r8, r1
more:   cmp     r8, #0
        bxeq    lr
        mov     r0, r5
        mov     r1, r6
        mov     r2, r8
        svc     0
        cmp     r0, #0
        ble     quit
        add     r6, r6, r0
        sub     r8, r8, r0
        b       more
quit:   mov     r0, #0
        mov     r7, #1
        svc     0
        .ltorg

        .section .arena, "aw", %nobits
        .balign 8
        .space  1 << 20
buffer: .space  64
        .balign 8
        .space  1 << 16
stack_top:
        .space  8
