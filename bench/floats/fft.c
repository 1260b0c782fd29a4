/* N times a Fourier transform of 1024 points in long double, and back; prints two of them. */
#include <stdio.h>
#include <stdlib.h>

enum { POINTS = 1024 };
static long double re[POINTS], im[POINTS], cosine[POINTS / 2], sine[POINTS / 2];

static void swap(long double *a, long double *b) {
    long double kept = *a;
    *a = *b;
    *b = kept;
}

static void transform(int inverse) {
    for (int i = 1, j = 0; i < POINTS; i++) {
        int bit = POINTS >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            swap(&re[i], &re[j]);
            swap(&im[i], &im[j]);
        }
    }
    for (int length = 2; length <= POINTS; length <<= 1)
        for (int i = 0; i < POINTS; i += length)
            for (int k = 0; k < length / 2; k++) {
                int low = i + k, high = low + length / 2, turn = k * (POINTS / length);
                long double c = cosine[turn], s = inverse ? -sine[turn] : sine[turn];
                long double x = re[high] * c - im[high] * s, y = re[high] * s + im[high] * c;
                re[high] = re[low] - x;
                im[high] = im[low] - y;
                re[low] += x;
                im[low] += y;
            }
    if (inverse)
        for (int i = 0; i < POINTS; i++) {
            re[i] /= POINTS;
            im[i] /= POINTS;
        }
}

int main(int argc, char **argv) {
    const long double c = 0.99998117528260115L, s = 0.0061358846491544754L;
    long double x = 1, y = 0;
    for (int i = 0; i < POINTS / 2; i++) {
        cosine[i] = x;
        sine[i] = y;
        long double next = x * c - y * s;
        y = x * s + y * c;
        x = next;
    }
    for (int i = 0; i < POINTS; i++)
        re[i] = i % 37 - 18;
    for (int n = argc > 1 ? atoi(argv[1]) : 10; n > 0; n--) {
        transform(0);
        transform(1);
    }
    printf("%.19Lg %.19Lg\n", re[5], im[77]);
    return 0;
}
