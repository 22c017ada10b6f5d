/* The sweep, in sPyNNaker's interface of structural plasticity: what rewires rows there brings them up to date here, so that a row is
 * touched within EPROP_BLOCKS blocks although its source is silent. */

#include <neuron/structural_plasticity/synaptogenesis_dynamics.h>
#include <neuron/population_table/population_table.h>
#include <neuron/synapse_row.h>
#include <debug.h>

#include "eprop_core.h"

void eprop_sweep_row(synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed);

static uint32_t next = 0, last = 0; /* in the list of keys: the next one, and the end of this tick's */
static bool more = false; /* the key before may have rows left */

bool synaptogenesis_dynamics_initialise(address_t sdram_sp_address, uint32_t *recording_regions_used) {
    (void) sdram_sp_address;
    *recording_regions_used += 1;
    return true;
}

/* How many rows may be due in this tick: in a break an equal share of all sources', else those of this tick's sources. */
uint32_t synaptogenesis_n_updates(void) {
    const uint32_t n = eprop_core.learning.n_sweep, ticks = eprop_core.learning.break_ticks;
    if (eprop_core.in_break) {
        next = n * (eprop_core.in_break - 1) / ticks;
        last = n * eprop_core.in_break / ticks;
    } else {
        const uint32_t due = eprop_core.tick % EPROP_SWEEP;
        next = eprop_core.sweep_first[due];
        last = eprop_core.sweep_first[due + 1];
    }
    more = false;
    return (last - next) * eprop_core.learning.rows_per_key;
}

/* The next row: of the same source while it has some, then of the next source that has any on this core. */
bool synaptogenesis_dynamics_rewire(uint32_t time, spike_t *spike, pop_table_lookup_result_t *result) {
    (void) time;
    if (more && population_table_get_next_address(spike, result)) {
        return true;
    }
    more = false;
    while (next < last) {
        *spike = eprop_core.sweep_keys[next];
        next++;
        if (population_table_get_first_address(*spike, result)) {
            more = true;
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
