/* The parts of sPyNNaker's and SpiNNaker's C interfaces that the extension uses, for this machine: enough to run a core's program as a
 * process. Written from the interfaces' documentation; what a real core does between the calls is program.c. */

#ifndef SHIM_H
#define SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned int uint;
typedef uint32_t *address_t;
typedef uint32_t index_t, spike_t;
typedef uint16_t weight_t;
typedef int32_t input_t; /* s16.15: gcc has accum for ARM only */
#define bitsk(x) (x)
#define kbits(x) (x)

/* spin1_api.h, debug.h */
typedef void (*callback_t)(uint, uint);
enum { MCPL_PACKET_RECEIVED = 4 };
enum { RTE_SWERR = 1 };
void spin1_callback_on(uint event, callback_t callback, int priority);
static inline void *spin1_malloc(uint size) {
    return malloc(size ? size : 1);
}
static inline void spin1_memcpy(void *to, const void *from, uint size) {
    memcpy(to, from, size);
}
static inline void rt_error(uint code) {
    exit((int) code);
}
#define log_error(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))

/* neuron.h, send_spike.h, neuron_recording.h */
extern uint32_t *neuron_keys, colour;
extern bool use_key;
void send_spike_mc(uint32_t key);
void send_spike(uint32_t timer_count, uint32_t time, uint32_t neuron_index);
void send_spike_mc_payload(uint32_t key, uint32_t payload);
void neuron_recording_record_accum(uint32_t variable, uint32_t neuron, input_t value);
static inline void neuron_recording_record_bit(uint32_t variable, uint32_t neuron) {
    (void) variable, (void) neuron;
}

/* synapses.h, synapse_row.h: a row is the number of words of its plastic part, that part, the numbers of fixed and of plastic synapses, a
 * word for each fixed one and a half word for each plastic one */
extern uint32_t synapse_type_index_bits, synapse_index_bits, synapse_delay_mask;
typedef uint32_t *synaptic_row_t;
typedef void synapse_row_plastic_data_t;
typedef struct {
    uint32_t n_fixed, n_plastic, data[];
} synapse_row_fixed_part_t;
static inline uint32_t synapse_row_plastic_size(synaptic_row_t row) {
    return row[0];
}
static inline synapse_row_plastic_data_t *synapse_row_plastic_region(synaptic_row_t row) {
    return &row[1];
}
static inline synapse_row_fixed_part_t *synapse_row_fixed_region(synaptic_row_t row) {
    return (synapse_row_fixed_part_t *) &row[1 + row[0]];
}
static inline uint32_t synapse_row_num_plastic_controls(const synapse_row_fixed_part_t *fixed) {
    return fixed->n_plastic;
}
static inline const uint16_t *synapse_row_plastic_controls(const synapse_row_fixed_part_t *fixed) {
    return (const uint16_t *) &fixed->data[fixed->n_fixed];
}
static inline uint32_t synapse_row_get_ring_buffer_index(
        uint32_t time, uint32_t type, uint32_t neuron, uint32_t type_index_bits, uint32_t index_bits, uint32_t delay_mask) {
    return (time & delay_mask) << type_index_bits | type << index_bits | neuron;
}

/* synapse_dynamics.h */
bool synapse_dynamics_initialise(address_t address, uint32_t n_neurons, uint32_t n_synapse_types, uint32_t *shifts);
bool synapse_dynamics_process_plastic_synapses(
        synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed, weight_t *ring_buffers, uint32_t time, uint32_t colour_delay,
        bool *write_back);
void synapse_dynamics_process_post_synaptic_event(uint32_t time, index_t neuron_index);
uint32_t synapse_dynamics_get_plastic_saturation_count(void);

/* population_table.h, synaptogenesis_dynamics.h */
typedef struct {
    synaptic_row_t row_address;
    uint32_t n_bytes_to_transfer;
} pop_table_lookup_result_t;
bool population_table_get_first_address(spike_t spike, pop_table_lookup_result_t *result);
bool population_table_get_next_address(spike_t *spike, pop_table_lookup_result_t *result);
bool synaptogenesis_dynamics_initialise(address_t address, uint32_t *recording_regions_used);
bool synaptogenesis_dynamics_rewire(uint32_t time, spike_t *spike, pop_table_lookup_result_t *result);
bool synaptogenesis_row_restructure(uint32_t time, synaptic_row_t row);
uint32_t synaptogenesis_n_updates(void);

#endif
