/* sPyNNaker's interface of synapse dynamics, for e-prop: a row's plastic part is eprop_row_head_t, weights, e, r and q; the 16-bit control
 * word of a synapse is the number of its target. A weight goes to the excitatory or the inhibitory ring buffer by its sign. */

#include <neuron/plasticity/synapse_dynamics.h>
#include <neuron/synapses.h>
#include <debug.h>
#include <spin1_api.h>

#include "eprop_core.h"

#define EPROP_LONGEST_ROW 256 /* sPyNNaker's population table */

eprop_core_t eprop_core;
eprop_scales_t eprop_rule;

static uint32_t n_events, n_ring_saturations;
static int32_t sent[EPROP_LONGEST_ROW];

bool synapse_dynamics_initialise(
        address_t address, uint32_t n_neurons, uint32_t n_synapse_types, uint32_t *ring_buffer_to_input_buffer_left_shifts) {
    (void) n_synapse_types, (void) ring_buffer_to_input_buffer_left_shifts;
    spin1_memcpy(&eprop_rule, address, sizeof eprop_rule);
    address += sizeof eprop_rule / sizeof *address;
    spin1_memcpy(&eprop_core.learning, address, sizeof eprop_core.learning);
    eprop_core.targets = (const int32_t *) &address[sizeof eprop_core.learning / sizeof *address];
    eprop_core.sweep_first = (const uint32_t *) &eprop_core.targets[eprop_core.learning.n_targets * n_neurons];
    eprop_core.sweep_keys = &eprop_core.sweep_first[EPROP_SWEEP + 1];
    eprop_core.sends = (const eprop_send_t *) &eprop_core.sweep_keys[eprop_core.learning.n_sweep];
    eprop_core.neurons = spin1_malloc(n_neurons * sizeof *eprop_core.neurons);
    eprop_core.rings = spin1_malloc(n_neurons * sizeof *eprop_core.rings);
    if (eprop_core.neurons == NULL || eprop_core.rings == NULL) {
        log_error("no memory for the coefficients of neurons that learn by e-prop");
        return false;
    }
    for (uint32_t j = 0; j < n_neurons; j++) {
        eprop_core.neurons[j] = (eprop_neuron_t){0};
        for (uint32_t i = 0; i < EPROP_RING; i++) {
            eprop_core.rings[j][i] = (eprop_block_t){0};
        }
    }
    return true;
}

/* Weights of a row in the ring buffers of the next step. */
static void arrive(const eprop_row_t *row, weight_t *ring_buffers, uint32_t time) {
    for (uint32_t s = 0; s < row->n; s++) {
        const uint32_t at = synapse_row_get_ring_buffer_index(
                time + 1, sent[s] < 0, row->target[s], synapse_type_index_bits, synapse_index_bits, synapse_delay_mask);
        const uint32_t sum = ring_buffers[at] + (uint32_t) (sent[s] < 0 ? -sent[s] : sent[s]);
        n_ring_saturations += sum > UINT16_MAX;
        ring_buffers[at] = (weight_t) (sum > UINT16_MAX ? UINT16_MAX : sum);
    }
}

static eprop_row_t row_of(synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed) {
    eprop_row_head_t *head = (eprop_row_head_t *) plastic;
    const uint32_t n = synapse_row_num_plastic_controls(fixed);
    int32_t *weight = (int32_t *) &head[1];
    eprop_state_t *e = (eprop_state_t *) &weight[n];
    return (eprop_row_t){
        .z = head->z, .block = head->block, .weight = weight, .e = e, .r = e + n, .q = e + (EPROP_SCALES->reg_max ? 2 * n : n), .n = n,
        .target = synapse_row_plastic_controls(fixed),
    };
}

static void bounds_of(const eprop_row_head_t *head, int32_t *low, int32_t *high) {
    *low = head->sign > 0 && eprop_core.learning.low < 0 ? 0 : eprop_core.learning.low;
    *high = head->sign < 0 && eprop_core.learning.high > 0 ? 0 : eprop_core.learning.high;
}

static void keep(synapse_row_plastic_data_t *plastic, const eprop_row_t *row) {
    eprop_row_head_t *head = (eprop_row_head_t *) plastic;
    head->z = row->z;
    head->block = row->block;
}

bool synapse_dynamics_process_plastic_synapses(
        synapse_row_plastic_data_t *plastic_region_data, synapse_row_fixed_part_t *fixed_region, weight_t *ring_buffers, uint32_t time,
        uint32_t colour_delay, bool *write_back) {
    (void) colour_delay; /* a spike that arrives late is one of this step */
    eprop_row_t row = row_of(plastic_region_data, fixed_region);
    int32_t low, high;
    bounds_of((eprop_row_head_t *) plastic_region_data, &low, &high);
    eprop_core.saturated += eprop_catch_up(EPROP_SCALES, eprop_core.tick, &row, eprop_core.rings);
    eprop_core.saturated += eprop_spike(EPROP_SCALES, eprop_core.tick, &row, eprop_core.neurons, low, high, sent);
    arrive(&row, ring_buffers, time);
    keep(plastic_region_data, &row);
    n_events += row.n;
    *write_back = true;
    return true;
}

void synapse_dynamics_process_post_synaptic_event(uint32_t time, index_t neuron_index) {
    (void) time, (void) neuron_index; /* what a neuron does reaches its synapses through its coefficients */
}

/* The sweep (synaptogenesis_eprop.c): bring a row up to now; in a break, let it forget. */
void eprop_sweep_row(synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed) {
    eprop_row_t row = row_of(plastic, fixed);
    eprop_core.saturated += eprop_catch_up(EPROP_SCALES, eprop_core.tick, &row, eprop_core.rings);
    if (eprop_core.in_break) {
        int32_t low, high;
        bounds_of((eprop_row_head_t *) plastic, &low, &high);
        eprop_reset_row(EPROP_SCALES, &row, eprop_core.neurons, low, high);
    }
    keep(plastic, &row);
}

uint32_t synapse_dynamics_get_plastic_pre_synaptic_events(void) {
    return n_events;
}

uint32_t synapse_dynamics_get_plastic_saturation_count(void) {
    return n_ring_saturations;
}

void synapse_dynamics_print_plastic_synapses(synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed, uint32_t *shifts) {
    (void) plastic, (void) fixed, (void) shifts;
}

/* Structural plasticity does not move these synapses. */
bool synapse_dynamics_find_neuron(
        uint32_t id, synaptic_row_t row, weight_t *weight, uint16_t *delay, uint32_t *offset, uint32_t *synapse_type) {
    (void) id, (void) row, (void) weight, (void) delay, (void) offset, (void) synapse_type;
    return false;
}

bool synapse_dynamics_remove_neuron(uint32_t offset, synaptic_row_t row) {
    (void) offset, (void) row;
    return false;
}

bool synapse_dynamics_add_neuron(uint32_t id, synaptic_row_t row, weight_t weight, uint32_t delay, uint32_t type) {
    (void) id, (void) row, (void) weight, (void) delay, (void) type;
    return false;
}

uint32_t synapse_dynamics_n_connections_in_row(synapse_row_fixed_part_t *fixed) {
    return synapse_row_num_plastic_controls(fixed);
}
