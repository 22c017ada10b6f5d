/* What e-prop does on a core, for counting instructions: RUNS repetitions of one part, chosen by PART, after a warm-up that is the same for all.
 * No library: exits by Linux's system call, which qemu-arm's user mode takes. Compiled by spinnaker_eprop.py. */

#include "eprop.h"
#include "scales.h" /* SCALES */

enum { FOLD, SPIKE, CATCH_UP };

static const eprop_scales_t scales = SCALES;
static eprop_neuron_t neurons[NEURONS];
static eprop_block_t rings[NEURONS][EPROP_RING];
static int32_t weight[SYNAPSES], sent[SYNAPSES];
static eprop_state_t e[SYNAPSES], r[SYNAPSES];
static uint16_t target[SYNAPSES];

/* The scales as on a chip: numbers in memory, which the compiler does not know. */
static const eprop_scales_t *known(void) {
    const eprop_scales_t *k = &scales;
    __asm__("" : "+r"(k));
    return k;
}

static void __attribute__((noinline)) fold(uint32_t tick) {
    const eprop_scales_t *k = known();
    for (uint32_t j = 0; j < NEURONS; j++) {
        eprop_fold_neuron(k, tick, 1000 + j, 50000 - 7 * j, 300, &neurons[j], rings[j]);
    }
}

static void __attribute__((noinline)) spike(uint32_t tick, eprop_row_t *row) {
    eprop_spike(known(), tick, row, neurons, -(1 << 29), 1 << 29, sent);
}

static void __attribute__((noinline)) catch_up(uint32_t tick, eprop_row_t *row) {
    eprop_catch_up(known(), tick, row, rings);
}

void _start(void) {
    eprop_row_t row = {.weight = weight, .e = e, .r = r, .target = target, .n = SYNAPSES};
    uint32_t tick = 0;
    for (uint32_t s = 0; s < SYNAPSES; s++) {
        target[s] = s % NEURONS;
    }
    for (; tick < 2 * EPROP_WINDOW + 5; tick++) {
        fold(tick);
    }
    catch_up(tick - 1, &row);
    for (uint32_t i = 0; i < RUNS; i++) {
        if (PART == FOLD) {
            fold(tick++);
        } else if (PART == SPIKE) {
            spike(tick - 1, &row);
        } else {
            row.block -= 1;
            catch_up(tick - 1, &row);
        }
    }
    __asm__ volatile("mov r0, #0\n mov r7, #1\n svc #0");
}
