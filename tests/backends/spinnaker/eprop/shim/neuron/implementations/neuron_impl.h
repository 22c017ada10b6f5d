/* What sPyNNaker's neuron.c calls, static in its own unit. */

#ifndef NEURON_IMPL_H
#define NEURON_IMPL_H

#include "../../shim.h"

static bool neuron_impl_initialise(uint32_t n_neurons);
static void neuron_impl_add_inputs(index_t synapse_type_index, index_t neuron_index, input_t weights_this_timestep);
static void neuron_impl_load_neuron_parameters(address_t address, uint32_t next, uint32_t n_neurons, address_t save_initial_state);
static void neuron_impl_do_timestep_update(uint32_t timer_count, uint32_t tick, uint32_t n_neurons);
static void neuron_impl_store_neuron_parameters(address_t address, uint32_t next, uint32_t n_neurons);

#endif
