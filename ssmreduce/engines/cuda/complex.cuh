// Complex numbers and powers of poles, for the kernels in scan.cu and fused.cu; REAL is float or double.

#ifndef SHARED_MEMORY
#define SHARED_MEMORY(type, name) extern __shared__ type name[]
#endif

template <class T>
struct alignas(2 * sizeof(T)) Complex {
    T re, im;
};
typedef Complex<REAL> Value;
typedef Complex<double> Wide;

constexpr int LANES = 32;
constexpr unsigned ALL = 0xffffffffu;
constexpr int STEPS = sizeof(REAL) == 4 ? 16 : 8;  // samples that a thread holds in registers

__device__ inline Wide widen(Value x) { return {double(x.re), double(x.im)}; }
__device__ inline Value narrow(Wide x) { return {REAL(x.re), REAL(x.im)}; }

// a x + v
template <class T>
__device__ inline Complex<T> advance(Complex<T> a, Complex<T> x, Complex<T> v) {
    return {fma(a.re, x.re, fma(-a.im, x.im, v.re)), fma(a.re, x.im, fma(a.im, x.re, v.im))};
}

// The same for a power of an unstable pole, which may have overflowed where no state needs it.
template <class T>
__device__ inline Complex<T> carry(Complex<T> power, Complex<T> x, Complex<T> v) {
    return x.re == 0 && x.im == 0 ? v : advance(power, x, v);
}

// A double-double number: high + low, unevaluated.
struct Pair {
    double high, low;
};

__device__ inline Pair two_sum(double a, double b) {
    double s = a + b, t = s - a;
    return {s, (a - (s - t)) + (b - t)};
}

__device__ inline Pair add(Pair a, Pair b) {
    Pair s = two_sum(a.high, b.high);
    return two_sum(s.high, s.low + (a.low + b.low));
}

__device__ inline Pair multiply(Pair a, Pair b) {
    double p = a.high * b.high;
    return two_sum(p, fma(a.high, b.high, -p) + (a.high * b.low + a.low * b.high));
}

struct Precise {
    Pair re, im;
};

__device__ inline Precise multiply(Precise a, Precise b) {
    Pair minus = multiply(a.im, b.im);
    return {add(multiply(a.re, b.re), {-minus.high, -minus.low}), add(multiply(a.re, b.im), multiply(a.im, b.re))};
}

// lambda^(span j) for j < number, of each pole. Squaring doubles a relative error, so that a power of 2^14 would lose
// four digits of double precision: the powers are formed in double-double.
extern "C" __global__ void pole_powers(const Value* lambda, Value* rounded, Wide* wide, long long poles, long long span,
                                       long long number) {
    long long t = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (t >= poles * number) return;
    Value pole = lambda[t / number];
    Precise base = {{double(pole.re), 0.0}, {double(pole.im), 0.0}}, power = {{1.0, 0.0}, {0.0, 0.0}};
    for (long long exponent = t % number * span; exponent > 0; exponent /= 2) {
        if (exponent % 2) power = multiply(power, base);
        base = multiply(base, base);
    }
    wide[t] = {power.re.high, power.im.high};
    rounded[t] = narrow(wide[t]);
}
