/* Floating point on the x87: printing, parsing and the mathematical library. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    volatile double x = 1.0 / 3;
    volatile float f = 0.1f;
    volatile long double l = 1.0L / 7;
    printf("%f %e %g %a\n%.20g %.17g %.30Lf\n", x, x, x, x, x, (double)f, l);
    printf("%g %g %g %g %d\n", 1 / (x - x), -1 / (x - x), strtod("1e-320", NULL), strtod("6.02214076e23", NULL), (int)(x * 1e9));
    for (double a = -2; a <= 2; a += 0.5)
        printf("%.12g %.12g %.12g %.12g\n", sqrt(a * a + 1), floor(a * 1.7), fmod(a * 10, 3), a * a * a - a / 3);
    printf("%.10g %.10g %.10g %.10g\n", round(2.5), rint(2.5), trunc(-2.7), ceil(2.1));
    printf("%.12g %.12g\n", ldexp(x, 40), hypot(3, 4));
    return 0;
}
