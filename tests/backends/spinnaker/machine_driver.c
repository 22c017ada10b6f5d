/* Runs parts of a SpiNNaker binary in qemu-arm: reads commands from stdin, writes answers to stdout.
 *
 * 'W' address n bytes: write; 'R' address n: read; 'C' address r0 r1 r2 r3 s0 s1: call, answers r0. All numbers are 32 bits, little-endian.
 * Linked beside the binary's own two images, ITCM at 0 and DTCM at 0x400000 (machine_code.py writes the linker script). */
typedef unsigned int u32;
typedef unsigned char u8;

static u32 sys(u32 number, u32 a, u32 b, u32 c) {
    register u32 r7 __asm__("r7") = number;
    register u32 r0 __asm__("r0") = a;
    register u32 r1 __asm__("r1") = b;
    register u32 r2 __asm__("r2") = c;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
    return r0;
}

static void get(void *into, u32 n) {
    u8 *p = into;
    while (n) {
        u32 done = sys(3, 0, (u32)p, n);
        if (done == 0 || done > n)
            sys(1, 0, 0, 0);
        p += done;
        n -= done;
    }
}

static void put(const void *from, u32 n) {
    const u8 *p = from;
    while (n) {
        u32 done = sys(4, 1, (u32)p, n);
        if (done > n)
            sys(1, 2, 0, 0);
        p += done;
        n -= done;
    }
}

u8 arena[1 << 20] __attribute__((section(".arena"), aligned(8)));
u32 call(u32 function, u32 *arguments, u32 s0, u32 s1);

void start(void) {
    u32 h[7];
    for (;;) {
        get(h, 4);
        u32 what = h[0];
        if (what == 'W') {
            get(h, 8);
            get((void *)h[0], h[1]);
        } else if (what == 'R') {
            get(h, 8);
            put((void *)h[0], h[1]);
        } else if (what == 'C') {
            get(h, 28);
            u32 answer = call(h[0], h + 1, h[5], h[6]);
            put(&answer, 4);
        } else {
            sys(1, 3, 0, 0);
        }
    }
}

__asm__(".globl _start\n"
        "_start: ldr sp, =stack_top\n"
        "        bl start\n"
        ".globl call\n"
        "call:   push {r4-r11, lr}\n"
        "        sub sp, sp, #12\n"
        "        str r2, [sp]\n"
        "        str r3, [sp, #4]\n"
        "        mov r12, r0\n"
        "        ldm r1, {r0, r1, r2, r3}\n"
        "        blx r12\n"
        "        add sp, sp, #12\n"
        "        pop {r4-r11, pc}\n");
