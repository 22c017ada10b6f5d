/* What e-prop does on a core, for counting instructions: RUNS repetitions of one part, chosen by PART, after a warm-up that is the same for all.
 * No library: exits by Linux's system call, which qemu-arm's user mode takes. Compiled by spinnaker_eprop.py. */

#include "eprop_neurons.h"
#include "scales.h" /* SCALES, CELLS, CELL */

enum { FOLD, CATCH_UP, UPDATE, HEAR };

static const eprop_scales_t scales = SCALES;
static const eprop_cells_t cells = CELLS;
#ifdef EPROP_NUMBERS /* tables are read from the core's own memory */
eprop_scales_t eprop_rule = SCALES;
eprop_cells_t eprop_cells = CELLS;
#endif
static const eprop_cell_t cell = CELL;
static eprop_state_of_neuron_t states[NEURONS];
static int32_t heard[NEURONS], arrived[NEURONS], signals[NEURONS];
static int16_t feedback[NEURONS * READOUTS];
static int32_t psi_of, reg_of;
static eprop_neuron_t neurons[NEURONS];
static eprop_block_t rings[NEURONS][EPROP_RING];
static int32_t weight[SYNAPSES];
static eprop_state_t e[SYNAPSES], r[SYNAPSES], q[SYNAPSES];
static uint16_t target[SYNAPSES];

/* As in a build (EPROP_NUMBERS), the compiler knows the numbers. GENERIC: it does not, as in a program that reads them from its regions. */
static const eprop_scales_t *known(void) {
    const eprop_scales_t *k = &scales;
#ifdef GENERIC
    __asm__("" : "+r"(k));
#endif
    return k;
}

static void __attribute__((noinline)) fold(uint32_t tick) {
    const eprop_scales_t *k = known();
    const eprop_cell_t *own = &cell;
    __asm__("" : "+r"(own));
    for (uint32_t j = 0; j < NEURONS; j++) {
        eprop_fold_neuron(k, tick, 1000 + j, 50000 - 7 * j, 300, own->adapt_decay, own->adapt_step, &neurons[j], rings[j]);
    }
}

static void __attribute__((noinline)) catch_up(uint32_t tick, eprop_row_t *row) {
    eprop_catch_up(known(), tick, row, rings);
}

/* Neurons near their threshold: the surrogate is read from its table in each step; a tenth spikes. */
static void __attribute__((noinline)) update(void) {
    const eprop_cells_t *c = &cells;
    const eprop_cell_t *own = &cell;
#ifdef GENERIC
    __asm__("" : "+r"(c));
#endif
    __asm__("" : "+r"(own));
    for (uint32_t j = 0; j < NEURONS; j++) {
        eprop_update(c, own, arrived[j], &states[j], &psi_of, &reg_of);
        arrived[j] = 32000 + 480 * (int32_t) j;
        signals[j] = eprop_scaled(heard[j], c->signal);
        heard[j] = 0;
    }
    __asm__ volatile("" : : "r"(states), "r"(signals) : "memory");
}

/* A readout's packet, as neuron_impl_eprop.h has it. */
static void __attribute__((noinline)) hear(int32_t payload, uint32_t readout) {
    for (uint32_t j = 0; j < NEURONS; j++) {
        heard[j] += feedback[j * READOUTS + readout] * payload;
    }
    __asm__ volatile("" : : "r"(heard), "r"(feedback) : "memory");
}

void _start(void) {
    eprop_row_t row = {.weight = weight, .e = e, .r = r, .q = q, .target = target, .n = SYNAPSES};
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
        } else if (PART == UPDATE) {
            update();
        } else if (PART == HEAR) {
            hear(1000 + (int32_t) i, i % READOUTS);
        } else {
            row.block -= 1;
            catch_up(tick - 1, &row);
        }
    }
    __asm__ volatile("mov r0, #0\n mov r7, #1\n svc #0");
}
