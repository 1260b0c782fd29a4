/* N steps of five bodies that attract one another, in double; prints two coordinates. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct body { double at[3], speed[3], mass; };

static struct body bodies[5] = {
    {{0, 0, 0}, {0, 0, 0}, 39.47},
    {{4.84, -1.16, -.10}, {.6, 2.8, -.02}, .037},
    {{8.34, 4.12, -.4}, {-1.01, 1.8, .008}, .011},
    {{12.9, -15.1, -.22}, {1.08, .86, -.01}, .0017},
    {{15.3, -25.9, .17}, {.97, .59, -.03}, .002},
};

int main(int argc, char **argv) {
    for (int n = argc > 1 ? atoi(argv[1]) : 1000; n > 0; n--) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double apart[3], square = 0;
                for (int k = 0; k < 3; k++) {
                    apart[k] = bodies[i].at[k] - bodies[j].at[k];
                    square += apart[k] * apart[k];
                }
                double pull = 0.01 / (square * sqrt(square));
                for (int k = 0; k < 3; k++) {
                    bodies[i].speed[k] -= apart[k] * bodies[j].mass * pull;
                    bodies[j].speed[k] += apart[k] * bodies[i].mass * pull;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++)
                bodies[i].at[k] += 0.01 * bodies[i].speed[k];
    }
    printf("%.17g %.17g\n", bodies[0].at[0], bodies[3].speed[1]);
    return 0;
}
