/* How fast one core multiplies what is in its registers: twelve chains that wait for nothing else.

   multiply_rates KIND ROUNDS prints the CPU seconds of ROUNDS x 12 instructions on 512 bits.
   It ends with 3 where the processor has no such instruction. */

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEP(INSTRUCTION, sum) \
    __asm__ volatile(INSTRUCTION " %1, %2, %0" : "+v"(sum) : "v"(left), "v"(right));

#define FOUR(INSTRUCTION, at)      \
    STEP(INSTRUCTION, sums[at])    \
    STEP(INSTRUCTION, sums[at + 1]) \
    STEP(INSTRUCTION, sums[at + 2]) \
    STEP(INSTRUCTION, sums[at + 3])

#define CHAINS(NAME, INSTRUCTION)                                              \
    __attribute__((target("avx512f"))) static void NAME(long rounds, int ones) \
    {                                                                          \
        __m512i left = _mm512_set1_epi32(ones), right = left, sums[12];        \
        for (int at = 0; at < 12; at++)                                        \
            sums[at] = _mm512_setzero_si512();                                 \
        for (long round = 0; round < rounds; round++) {                        \
            FOUR(INSTRUCTION, 0)                                               \
            FOUR(INSTRUCTION, 4)                                               \
            FOUR(INSTRUCTION, 8)                                               \
        }                                                                      \
    }

CHAINS(multiply_fp32, "vfmadd231ps")
CHAINS(multiply_bf16, "vdpbf16ps")
CHAINS(multiply_int8, "vpdpbusd")

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    const char *kind = words[1];
    long rounds = atol(words[2]);
    int is_fp32 = !strcmp(kind, "fp32"), is_bf16 = !strcmp(kind, "bf16");
    if (is_fp32      ? !__builtin_cpu_supports("avx512f")
        : is_bf16    ? !__builtin_cpu_supports("avx512bf16")
                     : !__builtin_cpu_supports("avx512vnni"))
        return 3;
    clock_t start = clock();
    if (is_fp32)
        multiply_fp32(rounds, 0x3f800000);
    else if (is_bf16)
        multiply_bf16(rounds, 0x3f803f80);
    else
        multiply_int8(rounds, 0x01010101);
    printf("%.6f\n", (double)(clock() - start) / CLOCKS_PER_SEC);
    return 0;
}
