/* Numbers to text and back: roundtrips N prints, of N doubles and N long doubles of any bits, a sum over the texts and
   over what strtod and strtold make of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long long state = 88172645463325252ULL;

static unsigned long long random_bits(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void mix(unsigned *sum, const void *bytes, size_t size) {
    for (const unsigned char *at = bytes; size--; at++)
        *sum = (*sum ^ *at) * 16777619u;
}

static unsigned doubles(long count) {
    unsigned sum = 2166136261u;
    char text[64];
    for (long i = 0; i < count; i++) {
        unsigned long long bits = random_bits();
        if (i % 8 == 0)
            bits &= 0x800fffffffffffffULL; /* denormals */
        double number, back;
        memcpy(&number, &bits, sizeof number);
        const char *format = i % 3 == 0 ? "%.17g" : i % 3 == 1 ? "%a" : "%.3e";
        mix(&sum, text, snprintf(text, sizeof text, format, number));
        back = strtod(text, 0);
        if (back == back)
            mix(&sum, &back, sizeof back);
    }
    return sum;
}

static unsigned long_doubles(long count) {
    unsigned sum = 2166136261u;
    char text[64];
    for (long i = 0; i < count; i++) {
        struct {
            unsigned long long significand;
            unsigned short sign_and_exponent;
        } bits = {random_bits() | 1ULL << 63, random_bits()};
        if (i % 8 == 0)
            bits.sign_and_exponent &= 0x8000, bits.significand &= ~(1ULL << 63);
        long double number = 0, back = 0;
        memcpy(&number, &bits, 10);
        mix(&sum, text, snprintf(text, sizeof text, i % 2 ? "%La" : "%.21Lg", number));
        back = strtold(text, 0);
        if (back == back)
            mix(&sum, &back, 10);
    }
    return sum;
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 100;
    printf("%08x\n", doubles(count));
    printf("%08x\n", long_doubles(count));
    return 0;
}
