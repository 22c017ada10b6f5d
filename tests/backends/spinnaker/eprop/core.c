/* A core without a machine: reads what happened on it from stdin, writes what became of it to stdout (tests/.../test_native.py).
 * Native integers, in this order: n, rows, m (synapses a row), ticks, low, high, sweep; the scales' struct; targets (rows, m) uint16;
 * weights (rows, m) int32; rho and beta (n) int32; then for each tick psi, signal, reg (n) int32, the number of spikes and the rows that spike (int32).
 * Output: weights, then e, r and q as int32, z and block of each row, neurons, sum of the sent weights (int64), saturated (int64). */

#include <stdio.h>
#include <stdlib.h>

#include "eprop.h"

static void take(void *to, size_t size) {
    if (size && fread(to, size, 1, stdin) != 1) {
        fputs("input ends early\n", stderr);
        exit(2);
    }
}

static void *room(size_t n, size_t size) {
    void *found = calloc(n ? n : 1, size);
    if (!found) {
        exit(3);
    }
    return found;
}

int main(void) {
    int32_t head[7];
    eprop_scales_t k;
    take(head, sizeof head);
    take(&k, sizeof k);
    const uint32_t n = head[0], rows = head[1], m = head[2], ticks = head[3], sweep = head[6];
    uint16_t *target = room((size_t) rows * m, sizeof *target);
    int32_t *weight = room((size_t) rows * m, sizeof *weight), *sent = room(m, sizeof *sent);
    eprop_state_t *e = room((size_t) rows * m, sizeof *e), *r = room((size_t) rows * m, sizeof *r);
    eprop_state_t *q = room((size_t) rows * m, sizeof *q);
    int32_t *rho = room(n, sizeof *rho), *beta = room(n, sizeof *beta);
    eprop_row_t *row = room(rows, sizeof *row);
    eprop_neuron_t *neurons = room(n, sizeof *neurons);
    eprop_block_t(*rings)[EPROP_RING] = room(n, sizeof *rings);
    int32_t *psi = room(n, sizeof *psi), *signal = room(n, sizeof *signal), *reg = room(n, sizeof *reg);
    int32_t *spikes = room(rows, sizeof *spikes);
    int64_t result[2] = {0, 0};
    take(target, (size_t) rows * m * sizeof *target);
    take(weight, (size_t) rows * m * sizeof *weight);
    take(rho, n * sizeof *rho);
    take(beta, n * sizeof *beta);
    for (uint32_t i = 0; i < rows; i++) {
        const size_t at = (size_t) i * m;
        row[i] = (eprop_row_t){.weight = weight + at, .e = e + at, .r = r + at, .q = q + at, .target = target + at, .n = m};
    }
    for (uint32_t tick = 0; tick < ticks; tick++) {
        int32_t count;
        take(psi, n * sizeof *psi);
        take(signal, n * sizeof *signal);
        take(reg, n * sizeof *reg);
        take(&count, sizeof count);
        take(spikes, (size_t) count * sizeof *spikes);
        for (uint32_t j = 0; j < n; j++) {
            eprop_fold_neuron(&k, tick, psi[j], signal[j], reg[j], rho[j], beta[j], &neurons[j], rings[j]);
        }
        for (int32_t i = 0; i < count; i++) {
            eprop_row_t *own = &row[spikes[i]];
            result[1] += eprop_catch_up(&k, tick, own, rings);
            result[1] += eprop_spike(&k, tick, own, neurons, head[4], head[5], sent);
            for (uint32_t s = 0; s < m; s++) {
                result[0] += (int64_t) sent[s] * (1 + (tick + s) % 7);
            }
        }
        for (uint32_t i = tick % sweep; i < rows; i += sweep) {
            result[1] += eprop_catch_up(&k, tick, &row[i], rings);
        }
    }
    fwrite(weight, sizeof *weight, (size_t) rows * m, stdout);
    for (size_t i = 0; i < (size_t) rows * m; i++) {
        const int32_t all[3] = {e[i], r[i], q[i]};
        fwrite(all, sizeof all, 1, stdout);
    }
    for (uint32_t i = 0; i < rows; i++) {
        const int32_t both[2] = {row[i].z, (int32_t) row[i].block};
        fwrite(both, sizeof both, 1, stdout);
    }
    fwrite(neurons, sizeof *neurons, n, stdout);
    fwrite(result, sizeof result, 1, stdout);
    free(target), free(weight), free(sent), free(e), free(r), free(q), free(rho), free(beta), free(row), free(neurons), free(rings), free(psi), free(signal), free(reg);
    free(spikes);
    return 0;
}
