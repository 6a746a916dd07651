/* rng.c: counter-based random numbers: value = mix(seed, stream, counter), no state, so that any thread can draw any index.
 *
 * The mixer is two rounds of the splitmix64 finalizer (Steele, Lea, Flood 2014; constants of variant 13 by Stafford) over a key
 * made of seed and stream.  Normals are Box-Muller on counters 2c and 2c+1. */
#include "ounce/base.h"

#include <math.h>
#include <string.h>

#define GOLDEN 0x9E3779B97F4A7C15u

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t oz_rng_u64(oz_rng rng, uint64_t counter)
{
    uint64_t key = mix(rng.seed + GOLDEN) ^ mix(rng.stream * GOLDEN + 0xD1B54A32D192ED03u);
    return mix(mix(key + counter * GOLDEN) + key);
}

double oz_rng_uniform(oz_rng rng, uint64_t counter) { return (double)(oz_rng_u64(rng, counter) >> 11) * 0x1p-53; }

double oz_rng_normal(oz_rng rng, uint64_t counter)
{
    double u = 1.0 - oz_rng_uniform(rng, 2 * counter); /* (0, 1] */
    double v = oz_rng_uniform(rng, 2 * counter + 1);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925286766559 * v);
}

oz_rng oz_rng_sub(oz_rng rng, uint64_t stream) { return (oz_rng){rng.seed, mix(rng.stream + GOLDEN) + mix(stream + 0x2545F4914F6CDD1Du)}; }

oz_rng oz_rng_named(uint64_t seed, const char *name) { return (oz_rng){seed, oz_hash64(name, strlen(name), 0)}; }
