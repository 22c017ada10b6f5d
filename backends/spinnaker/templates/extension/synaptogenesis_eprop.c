/* The sweep, in sPyNNaker's interface of structural plasticity: what rewires rows there brings them up to date here, so that a row is
 * touched within EPROP_BLOCKS blocks although its source is silent. */

#include <neuron/structural_plasticity/synaptogenesis_dynamics.h>
#include <neuron/population_table/population_table.h>
#include <neuron/spike_processing.h>
#include <neuron/synapse_row.h>
#include <debug.h>
#include <spin1_api.h>

#include "eprop_core.h"

void eprop_sweep_row(synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed);

static uint32_t next = 0, left = 0; /* in the list of keys: the next one, and how many are due */
static bool more = false; /* the key before has rows left in the population table */
static uint32_t postponed = 0; /* rows that could not be asked for */

bool synaptogenesis_dynamics_initialise(address_t sdram_sp_address, uint32_t *recording_regions_used) {
    (void) sdram_sp_address;
    *recording_regions_used += 1;
    return true;
}

/* sPyNNaker asks before it updates the neurons, which ask for the sweep themselves when their coefficients are those of the tick. */
uint32_t synaptogenesis_n_updates(void) {
    return 0;
}

/* In a break an equal share of all sources, else those of this tick's. What a tick before has not come to stays due. */
uint32_t eprop_sweep_due(void) {
    const uint32_t n = eprop_core.learning.n_sweep, ticks = eprop_core.learning.break_ticks, in_break = eprop_core.in_break;
    const uint32_t due = eprop_core.tick % EPROP_SWEEP;
    const uint32_t first = in_break ? n * (in_break - 1) / ticks : eprop_core.sweep_first[due];
    const uint32_t end = in_break ? n * in_break / ticks : eprop_core.sweep_first[due + 1];
    const uint state = spin1_int_disable();
    if (left == 0 || in_break == 1) {
        next = first;
        left = 0;
    }
    left += end - first;
    spin1_mode_restore(state);
    return left * eprop_core.learning.rows_per_key;
}

static void again(uint first, uint second) {
    (void) first, (void) second;
    const uint state = spin1_int_disable();
    const uint32_t n = postponed;
    postponed = 0;
    spin1_mode_restore(state);
    spike_processing_do_rewiring((int) n);
}

/* The next row: of the same source while it has some, then of the next source that has any on this core. */
bool synaptogenesis_dynamics_rewire(uint32_t time, spike_t *spike, pop_table_lookup_result_t *result) {
    (void) time;
    if (more) {
        const bool found = population_table_get_next_address(spike, result);
        more = items_to_go > 0;
        if (found) {
            return true;
        }
    }
    if (items_to_go > 0) { /* a spike of before has rows left, which the table would forget: they come first */
        if (postponed++ == 0) {
            spin1_schedule_callback(again, 0, 0, 1);
        }
        return false;
    }
    while (left > 0) {
        *spike = eprop_core.sweep_keys[next];
        next = next + 1 < eprop_core.learning.n_sweep ? next + 1 : 0;
        left--;
        if (population_table_get_first_address(*spike, result)) {
            more = items_to_go > 0;
            return true;
        }
    }
    return false;
}

bool synaptogenesis_row_restructure(uint32_t time, synaptic_row_t row) {
    (void) time;
    if (synapse_row_plastic_size(row) == 0) {
        return false; /* static synapses of the same source */
    }
    eprop_sweep_row(synapse_row_plastic_region(row), synapse_row_fixed_region(row));
    return true;
}

void synaptogenesis_spike_received(uint32_t time, spike_t spike) {
    (void) time, (void) spike;
}

void print_post_to_pre_entry(void) {
}
