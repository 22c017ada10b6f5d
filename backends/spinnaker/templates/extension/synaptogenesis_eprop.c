/* The sweep, in sPyNNaker's interface of structural plasticity: what rewires rows there brings them up to date here, so that a row is
 * touched within EPROP_BLOCKS blocks although its source is silent. */

#include <neuron/structural_plasticity/synaptogenesis_dynamics.h>
#include <neuron/population_table/population_table.h>
#include <neuron/synapse_row.h>
#include <debug.h>

#include "eprop_core.h"

void eprop_sweep_row(synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed);

static uint32_t next = 0; /* in the list of keys */

bool synaptogenesis_dynamics_initialise(address_t sdram_sp_address, uint32_t *recording_regions_used) {
    (void) sdram_sp_address;
    *recording_regions_used += 1;
    return true;
}

/* How many rows are due in this tick: in a break an equal share of all rows, else those of this tick. */
uint32_t synaptogenesis_n_updates(void) {
    const uint32_t n = eprop_core.learning.n_sweep, ticks = eprop_core.learning.break_ticks;
    if (eprop_core.in_break) {
        next = n * (eprop_core.in_break - 1) / ticks;
        return n * eprop_core.in_break / ticks - next;
    }
    const uint32_t due = eprop_core.tick % EPROP_SWEEP;
    next = eprop_core.sweep_first[due];
    return eprop_core.sweep_first[due + 1] - next;
}

bool synaptogenesis_dynamics_rewire(uint32_t time, spike_t *spike, pop_table_lookup_result_t *result) {
    (void) time;
    if (next >= eprop_core.learning.n_sweep) {
        return false;
    }
    const uint32_t key = eprop_core.sweep_keys[next];
    const bool again = next > 0 && eprop_core.sweep_keys[next - 1] == key; /* a source's next row */
    next++;
    *spike = key;
    return again ? population_table_get_next_address(spike, result) : population_table_get_first_address(key, result);
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
