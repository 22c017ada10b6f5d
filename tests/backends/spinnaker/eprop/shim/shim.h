/* The parts of sPyNNaker's and SpiNNaker's C interfaces that the extension uses, for this machine: enough to run a core's program as a
 * process. Types, constness and the rules that make a call end the core are those of the real ones (docs/spinnaker-eprop.md, "The C", says
 * with which versions they were compared); what a real core does between the calls is program.c. */

#ifndef SHIM_H
#define SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define time spinnaker_time /* sPyNNaker's tick has the name of a function here */

typedef unsigned int uint;
typedef uint32_t *address_t;
typedef uint32_t index_t, spike_t;
typedef uint16_t weight_t, control_t;
typedef struct {
    int32_t bits;
} input_t; /* s16.15, no integer; gcc has accum for ARM only */
static inline int32_t bitsk(input_t value) {
    return value.bits;
}
static inline input_t kbits(int32_t bits) {
    return (input_t){bits};
}

/* spin1_api.h, spin1_api_params.h, debug.h */
typedef void (*callback_t)(uint, uint);
typedef struct {
    callback_t cback;
    int priority;
} cback_t;
enum { MC_PACKET_RECEIVED = 0, USER_EVENT = 4, MCPL_PACKET_RECEIVED = 5, NUM_EVENTS = 8 };
extern cback_t callback[NUM_EVENTS];
enum { RTE_SWERR = 13, RTE_API = 19 };
__attribute__((nonnull)) void spin1_callback_on(uint event, callback_t callback, int priority);
__attribute__((nonnull)) uint spin1_schedule_callback(callback_t callback, uint first, uint second, uint priority);
uint spin1_trigger_user_event(uint first, uint second);
uint spin1_irq_disable(void);
uint spin1_int_disable(void);
void spin1_mode_restore(uint state);
static inline void *spin1_malloc(uint size) {
    return malloc(size ? size : 1);
}
static inline void spin1_memcpy(void *to, const void *from, uint size) {
    memcpy(to, from, size);
}
static inline void rt_error(uint code) {
    exit(100 + (int) code);
}
#define log_error(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))

/* neuron.h, send_spike.h, neuron_recording.h */
extern uint32_t time, *neuron_keys, colour;
extern bool use_key;
void send_spike_mc(uint32_t key);
void send_spike(uint32_t timer_count, uint32_t time, uint32_t neuron_index);
void send_spike_mc_payload(uint32_t key, uint32_t payload);
void neuron_recording_record_accum(uint32_t variable, uint32_t neuron, input_t value);
void neuron_recording_record_bit(uint32_t variable, uint32_t neuron);

/* spike_processing.h */
bool spike_processing_do_rewiring(int number_of_rewires);

/* synapses.h, synapse_row.h: a row is the number of words of its plastic part, that part, the numbers of fixed and of plastic synapses, a
 * word for each fixed one and a half word for each plastic one */
extern uint32_t synapse_type_index_bits, synapse_index_bits, synapse_delay_mask;
typedef struct synaptic_row *synaptic_row_t; /* of no known content */
typedef struct synapse_row_plastic_data_t synapse_row_plastic_data_t; /* the dynamics' own */
typedef struct {
    uint32_t n_fixed, n_plastic, data[];
} synapse_row_fixed_part_t;
static inline uint32_t synapse_row_plastic_size(const synaptic_row_t row) {
    return *(const uint32_t *) row;
}
static inline synapse_row_plastic_data_t *synapse_row_plastic_region(synaptic_row_t row) {
    return (synapse_row_plastic_data_t *) ((uint32_t *) row + 1);
}
static inline synapse_row_fixed_part_t *synapse_row_fixed_region(synaptic_row_t row) {
    return (synapse_row_fixed_part_t *) ((uint32_t *) row + 1 + synapse_row_plastic_size(row));
}
static inline uint32_t synapse_row_num_plastic_controls(const synapse_row_fixed_part_t *fixed) {
    return fixed->n_plastic;
}
static inline control_t *synapse_row_plastic_controls(synapse_row_fixed_part_t *fixed) {
    return (control_t *) &fixed->data[fixed->n_fixed];
}
static inline index_t synapse_row_get_ring_buffer_index(
        uint32_t time, uint32_t type, uint32_t neuron, uint32_t type_index_bits, uint32_t index_bits, uint32_t delay_mask) {
    return (time & delay_mask) << type_index_bits | type << index_bits | neuron;
}

/* synapse_dynamics.h */
bool synapse_dynamics_initialise(address_t address, uint32_t n_neurons, uint32_t n_synapse_types, uint32_t *shifts);
bool synapse_dynamics_process_plastic_synapses(
        synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed, weight_t *ring_buffers, uint32_t time, uint32_t colour_delay,
        bool *write_back);
void synapse_dynamics_process_post_synaptic_event(uint32_t time, index_t neuron_index);
void synapse_dynamics_print_plastic_synapses(synapse_row_plastic_data_t *plastic, synapse_row_fixed_part_t *fixed, uint32_t *shifts);
uint32_t synapse_dynamics_get_plastic_pre_synaptic_events(void);
uint32_t synapse_dynamics_get_plastic_saturation_count(void);
bool synapse_dynamics_find_neuron(
        uint32_t id, synaptic_row_t row, weight_t *weight, uint16_t *delay, uint32_t *offset, uint32_t *synapse_type);
bool synapse_dynamics_remove_neuron(uint32_t offset, synaptic_row_t row);
bool synapse_dynamics_add_neuron(uint32_t id, synaptic_row_t row, weight_t weight, uint32_t delay, uint32_t type);
uint32_t synapse_dynamics_n_connections_in_row(synapse_row_fixed_part_t *fixed);

/* population_table.h, synaptogenesis_dynamics.h */
typedef struct {
    synaptic_row_t row_address;
    uint32_t n_bytes_to_transfer, colour, colour_mask;
} pop_table_lookup_result_t;
extern uint16_t items_to_go; /* rows of the spike that was looked up last */
bool population_table_get_first_address(spike_t spike, pop_table_lookup_result_t *result);
bool population_table_get_next_address(spike_t *spike, pop_table_lookup_result_t *result);
bool synaptogenesis_dynamics_initialise(address_t address, uint32_t *recording_regions_used);
bool synaptogenesis_dynamics_rewire(uint32_t time, spike_t *spike, pop_table_lookup_result_t *result);
bool synaptogenesis_row_restructure(uint32_t time, synaptic_row_t row);
void synaptogenesis_spike_received(uint32_t time, spike_t spike);
uint32_t synaptogenesis_n_updates(void);
void print_post_to_pre_entry(void);

#endif
