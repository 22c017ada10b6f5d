/* What a core does for a row of its own and for spikes that are held back, for counting instructions, as spinnaker_eprop.c: the extension's
 * functions as sPyNNaker calls them. Compiled by spinnaker_eprop.py; what sPyNNaker does around them is counted by spinnaker_rows.py. */

#include "scales.h" /* SCALES, CELLS, CELL */
#include "synapse_dynamics_eprop.c"
#include "synaptogenesis_eprop.c"

#include <neuron/send_spike.h>

#include "eprop_held.h"

enum { ROW = 4, SWEEP, HELD_TICK, HELD_SPIKE };

uint32_t keys[NEURONS], *neuron_keys = keys, colour = 3;
bool use_key = true;
uint32_t synapse_type_index_bits = 8, synapse_index_bits = 7, synapse_delay_mask = 1;
static volatile uint32_t controller[2];
static weight_t ring_buffers[2 * 256];
static eprop_neuron_t neurons[NEURONS];
static eprop_block_t rings[NEURONS][EPROP_RING];
static uint32_t first[EPROP_SWEEP + 1], sweep_keys[EPROP_SWEEP + 2];
static uint32_t row[3 + 3 + 1 + 4 * SYNAPSES + SYNAPSES + 1];
static eprop_send_t sends[1] = {{.wait = WAIT, .offset = 1024}};
static uint32_t spiked[WAIT * ((NEURONS + 31) / 32)];

uint16_t items_to_go;

uint __attribute__((noinline)) spin1_int_disable(void) {
    __asm__ volatile("" : : : "memory");
    return 0;
}

void __attribute__((noinline)) spin1_mode_restore(uint state) {
    __asm__ volatile("" : : "r"(state) : "memory");
}

uint spin1_schedule_callback(callback_t called, uint first_argument, uint second_argument, uint priority) {
    (void) called, (void) first_argument, (void) second_argument, (void) priority;
    return 1;
}

bool spike_processing_do_rewiring(int number_of_rewires) {
    return number_of_rewires > 0;
}

/* As sPyNNaker's: wait until the controller takes a packet, then its flags and its key. */
void __attribute__((noinline)) send_spike_mc(uint32_t key) {
    while (controller[0] & 1) {
    }
    controller[0] = 0;
    controller[1] = key;
}

void __attribute__((noinline)) send_spike(uint32_t timer_count, uint32_t time, uint32_t neuron_index) {
    (void) timer_count, (void) time;
    send_spike_mc(neuron_keys[neuron_index] | colour);
}

/* sPyNNaker's table is in spinnaker_rows.py's count. */
bool __attribute__((noinline)) population_table_get_first_address(spike_t spike, pop_table_lookup_result_t *result) {
    __asm__ volatile("" : : "r"(spike), "r"(result) : "memory");
    return true;
}

bool __attribute__((noinline)) population_table_get_next_address(spike_t *spike, pop_table_lookup_result_t *result) {
    __asm__ volatile("" : : "r"(spike), "r"(result) : "memory");
    return false;
}

/* A row of a source whose block is under way: no stretch of finished blocks. */
static void __attribute__((noinline)) begin(void) {
    synapse_row_fixed_part_t *fixed;
    const uint32_t words = 3 + SYNAPSES * (4 + (EPROP_ADAPTIVE + (EPROP_SCALES->reg_max > 0) + 1) * sizeof(eprop_state_t)) / 4;
    static const eprop_scales_t scales = SCALES;
    for (uint32_t i = 0; i < sizeof scales / sizeof(uint32_t); i++) {
        ((volatile uint32_t *) &eprop_rule)[i] = ((const uint32_t *) &scales)[i];
    }
    eprop_core.neurons = neurons;
    eprop_core.rings = rings;
    eprop_core.sweep_first = first;
    eprop_core.sweep_keys = sweep_keys;
    eprop_core.tick = EPROP_SWEEP + 5;
    eprop_core.learning.low = -(1 << 29);
    eprop_core.learning.high = 1 << 29;
    eprop_core.learning.rows_per_key = 1;
    eprop_core.learning.n_sweep = EPROP_SWEEP + 2;
    eprop_core.learning.n_sends = 1;
    row[0] = words;
    row[2] = eprop_core.tick >> EPROP_WINDOW_BITS;
    fixed = synapse_row_fixed_region((synaptic_row_t) row);
    fixed->n_plastic = SYNAPSES;
    for (uint32_t s = 0; s < SYNAPSES; s++) {
        ((uint16_t *) synapse_row_plastic_controls(fixed))[s] = (uint16_t) (s % NEURONS);
    }
    for (uint32_t s = 0; s <= EPROP_SWEEP; s++) {
        first[s] = s > 5 ? EPROP_SWEEP + 1 : 0;
    }
    eprop_held = (eprop_held_t){
        .sends = sends, .n_sends = 1, .longest = WAIT, .words = (NEURONS + 31) / 32, .spiked = spiked,
    };
}

void _start(void) {
    bool write_back;
    spike_t spike;
    pop_table_lookup_result_t result;
    begin();
    eprop_sweep_due();
    for (uint32_t i = 0; i < RUNS; i++) {
        if (PART == ROW) {
            synapse_dynamics_process_plastic_synapses(
                    synapse_row_plastic_region((synaptic_row_t) row), synapse_row_fixed_region((synaptic_row_t) row), ring_buffers, i, 0, &write_back);
        } else if (PART == SWEEP) {
            synaptogenesis_dynamics_rewire(i, &spike, &result);
            synaptogenesis_row_restructure(i, (synaptic_row_t) row);
        } else {
            eprop_held_send();
            if (PART == HELD_SPIKE) {
                for (uint32_t j = 0; j < NEURONS; j++) {
                    eprop_held_spike(i, i, j);
                }
            }
            eprop_held_end();
        }
    }
    __asm__ volatile("mov r0, #0\n mov r7, #1\n svc #0");
}
