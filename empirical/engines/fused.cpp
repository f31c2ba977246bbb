// Batch norm, rectifier and 2×2 max-pool of one layer in one pass each way, on channels_last maps.
//
// A map (B, C, H, W) in channels_last is a matrix of B·H·W rows of C channels.  With u the convolution's
// output, per channel,
//
//     y = γ·(u − m)/√(v + ε) + β          m, v: mean and variance (divisor n) of u over the rows
//     z = y > 0 ? y : a·y                 a = 0: ReLU
//     o = max of z over each 2×2 window   (of several equal ones the first)
//
// and back, with g the gradient at y and û = (u − m)/√(v + ε),
//
//     ∂E/∂β = Σ g     ∂E/∂γ = Σ g·û     ∂E/∂a = Σ over y ≤ 0 of y·∂E/∂z
//     ∂E/∂u = γ/√(v + ε) · (g − Σg/n − û·Σ(g·û)/n)
//
// Neither y nor z is stored: the backward pass computes them again from u, in the same order of
// operations and hence to the same bits.
//
// Rows are worked on in chunks that stay in the innermost cache.  A chunk's sums are taken in the type
// of the arithmetic (float for float and bfloat16), its variance about its own mean; chunks are combined
// in double, one after the other.  Their size depends on the shape alone, so the number of threads
// changes no bit.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int REGISTER = 64;  // bytes
#elif defined(__AVX__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif
constexpr int64_t CACHED = 32768;  // bytes of a chunk

// ---- W channels at once: loaded from and stored to float, double or bfloat16 ---------------------

struct bfloat16 {
  uint16_t bits;
};

template <class T> struct arithmetic { using type = float; };
template <> struct arithmetic<double> { using type = double; };

template <class E, int W> struct vector_of { typedef E type __attribute__((vector_size(sizeof(E) * W))); };

template <class T, int W> struct Lanes {
  using A = typename arithmetic<T>::type;
  using V = typename vector_of<A, W>::type;

  static V load(const T *from) {
    V value;
    if constexpr (std::is_same<T, bfloat16>::value) {
      typename vector_of<uint16_t, W>::type half;
      std::memcpy(&half, from, sizeof half);
      const auto wide = __builtin_convertvector(half, typename vector_of<uint32_t, W>::type) << 16;
      std::memcpy(&value, &wide, sizeof value);
    } else {
      std::memcpy(&value, from, sizeof value);
    }
    return value;
  }

  static void store(T *to, V value) {
    if constexpr (std::is_same<T, bfloat16>::value) {  // to nearest, ties to even
      typename vector_of<uint32_t, W>::type wide;
      std::memcpy(&wide, &value, sizeof wide);
      const auto half = __builtin_convertvector((wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16,
                                                typename vector_of<uint16_t, W>::type);
      std::memcpy(to, &half, sizeof half);
    } else {
      std::memcpy(to, &value, sizeof value);
    }
  }
};

template <class V, class A> V read(const A *from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Call body(channel, width) over all channels, as many at a time as a register holds.
template <class A, class Body> void blocks(int64_t channels, const Body &body) {
  constexpr int W = REGISTER / sizeof(A);
  int64_t c = 0;
  for (; c + W <= channels; c += W) body(c, std::integral_constant<int, W>());
  for (; c < channels; ++c) body(c, std::integral_constant<int, 1>());
}

// ---- mean and variance ---------------------------------------------------------------------------

template <class T, int W, class A>
void chunk_statistics(const T *u, int64_t stride, int64_t rows, A *mean, A *deviation) {
  using L = Lanes<T, W>;
  typename L::V sum{}, square{};
  for (int64_t r = 0; r < rows; ++r) sum += L::load(u + r * stride);
  const auto centre = sum / A(rows);
  for (int64_t r = 0; r < rows; ++r) {
    const auto away = L::load(u + r * stride) - centre;
    square += away * away;
  }
  std::memcpy(mean, &centre, sizeof centre);
  std::memcpy(deviation, &square, sizeof square);
}

template <class T>
void statistics(const void *map, int64_t rows, int64_t channels, double *mean, double *variance,
                int threads) {
  using A = typename arithmetic<T>::type;
  const T *u = static_cast<const T *>(map);
  const int64_t size = std::max<int64_t>(1, CACHED / (channels * int64_t(sizeof(T))));
  const int64_t chunks = (rows + size - 1) / size;
  std::vector<A> means(chunks * channels), deviations(chunks * channels);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t k = 0; k < chunks; ++k)
    blocks<A>(channels, [&](int64_t c, auto w) {
      const int64_t at = k * channels + c;
      chunk_statistics<T, decltype(w)::value>(u + k * size * channels + c, channels,
                                              std::min(size, rows - k * size), &means[at], &deviations[at]);
    });
  std::fill(mean, mean + channels, 0.0);
  std::fill(variance, variance + channels, 0.0);
  for (int64_t k = 0; k < chunks; ++k)
    for (int64_t c = 0; c < channels; ++c)
      mean[c] += double(std::min(size, rows - k * size)) / double(rows) * double(means[k * channels + c]);
  for (int64_t k = 0; k < chunks; ++k)
    for (int64_t c = 0; c < channels; ++c) {
      const double away = double(means[k * channels + c]) - mean[c];
      variance[c] += (double(deviations[k * channels + c]) +
                      double(std::min(size, rows - k * size)) * away * away) / double(rows);
    }
}

// ---- one layer -----------------------------------------------------------------------------------

// Pointers to A are to the arithmetic's type, one value per channel.
template <class T> struct Call {
  using A = typename arithmetic<T>::type;
  T *u;               // the backward pass puts ∂E/∂u in its place
  const T *gradient;  // at the output
  T *output;
  int64_t lines, width, channels;  // lines: images × height
  const A *mean, *inverse, *gamma, *beta;  // inverse is 1/√(v + ε)
  A slope;
  const A *total, *product;  // Σg/n and Σ(g·û)/n
  int threads;
};

template <class T, bool NORM, bool SLOPED, bool POOL, int W> struct Block {
  using L = Lanes<T, W>;
  using A = typename L::A;
  using V = typename L::V;

  const Call<T> &call;
  const int64_t c;
  V mean{}, inverse{}, scale{}, beta{};
  const V zero{};

  Block(const Call<T> &whole, int64_t channel) : call(whole), c(channel) {
    if (NORM) {
      mean = read<V>(call.mean + c), inverse = read<V>(call.inverse + c);
      scale = inverse * read<V>(call.gamma + c), beta = read<V>(call.beta + c);
    }
  }

  V normalized(V u) const { return NORM ? (u - mean) * scale + beta : u; }
  // What is no number stays so, and goes back as torch's ReLU and PReLU let it.
  V rectified(V y) const { return SLOPED ? (y > zero ? y : call.slope * y) : (y <= zero ? zero : y); }
  V derived(V y, V gradient) const {
    return SLOPED ? (y > zero ? gradient : call.slope * gradient) : (y <= zero ? zero : gradient);
  }
  V back(V u, V g, V total, V product) const {
    return NORM ? scale * (g - total - (u - mean) * inverse * product) : g;
  }

  // The row of a place, and that of place k = 0 … 3 of the window that begins there.
  T *row(int64_t place) const { return call.u + place * call.channels + c; }
  T *row(int64_t place, int k) const { return row(place + (k & 1) + (k >> 1) * call.width); }

  // Call body(place, output place) for the places, or windows' first places, of lines begin … end.
  template <class Body> void places(int64_t begin, int64_t end, const Body &body) const {
    if (!POOL) {
      for (int64_t p = begin * call.width; p < end * call.width; ++p) body(p, p * call.channels + c);
      return;
    }
    for (int64_t line = begin; line < end; line += 2)
      for (int64_t column = 0; column < call.width; column += 2)
        body(line * call.width + column,
             (line / 2 * (call.width / 2) + column / 2) * call.channels + c);
  }

  // The place of a window with the greatest z: its u, y and z, and its number among the four.
  struct Winner {
    V u, y, z, number;
  };
  Winner winner(int64_t place) const {
    Winner best;
    best.u = L::load(row(place));
    best.y = normalized(best.u), best.z = rectified(best.y), best.number = zero;
    for (int k = 1; k < 4; ++k) {
      const V u = L::load(row(place, k)), y = normalized(u), z = rectified(y);
      const auto wins = (z > best.z) | (z != z);  // what is no number wins and stays, as in torch
      best.u = wins ? u : best.u;
      best.y = wins ? y : best.y;
      best.z = wins ? z : best.z;
      best.number = wins ? zero + A(k) : best.number;
    }
    return best;
  }

  void forward(int64_t begin, int64_t end) const {
    places(begin, end, [&](int64_t place, int64_t to) {
      L::store(call.output + to, POOL ? winner(place).z : rectified(normalized(L::load(row(place)))));
    });
  }

  // Σg, Σ(g·û) and Σ over y ≤ 0 of y·∂E/∂z per channel.
  void sum(int64_t begin, int64_t end, A *sums) const {
    V total{}, product{}, slopes{};
    places(begin, end, [&](int64_t place, int64_t from) {
      const V gradient = L::load(call.gradient + from);
      V u, y;
      if (POOL) {
        const Winner best = winner(place);
        u = best.u, y = best.y;
      } else {
        u = L::load(row(place)), y = normalized(u);
      }
      const V g = derived(y, gradient);
      if (NORM) total += g, product += g * ((u - mean) * inverse);
      if (SLOPED) slopes += y > zero ? zero : y * gradient;
    });
    std::memcpy(sums + c, &total, sizeof total);
    std::memcpy(sums + call.channels + c, &product, sizeof product);
    std::memcpy(sums + 2 * call.channels + c, &slopes, sizeof slopes);
  }

  void backward(int64_t begin, int64_t end) const {
    V total{}, product{};
    if (NORM) total = read<V>(call.total + c), product = read<V>(call.product + c);
    places(begin, end, [&](int64_t place, int64_t from) {
      const V gradient = L::load(call.gradient + from);
      if (POOL) {
        const Winner best = winner(place);
        const V g = derived(best.y, gradient);
        for (int k = 0; k < 4; ++k) {
          T *at = row(place, k);
          const auto won = best.number == A(k);
          L::store(at, back(L::load(at), won ? g : zero, total, product));
        }
      } else {
        T *at = row(place);
        const V u = L::load(at);
        L::store(at, back(u, derived(normalized(u), gradient), total, product));
      }
    });
  }
};

template <class T, bool NORM, bool SLOPED, bool POOL> struct Layer {
  using A = typename arithmetic<T>::type;

  // Call work(block, first line, last line, chunk) for every chunk of whole lines, with pooling of pairs.
  template <class Work> static void chunks(const Call<T> &call, const Work &work) {
    const int64_t size = lines(call);
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (int64_t begin = 0; begin < call.lines; begin += size)
      blocks<A>(call.channels, [&](int64_t c, auto w) {
        const Block<T, NORM, SLOPED, POOL, decltype(w)::value> block(call, c);
        work(block, begin, std::min(call.lines, begin + size), begin / size);
      });
  }

  static int64_t lines(const Call<T> &call) {
    const int64_t fit = CACHED / (call.width * call.channels * int64_t(sizeof(T)));
    return POOL ? std::max<int64_t>(2, fit / 2 * 2) : std::max<int64_t>(1, fit);
  }

  static void forward(const Call<T> &call) {
    chunks(call, [](const auto &block, int64_t begin, int64_t end, int64_t) { block.forward(begin, end); });
  }

  // sums: Σg, Σ(g·û) per channel, and the gradient of the slope.
  static void backward(Call<T> call, double *sums) {
    const int64_t channels = call.channels, count = (call.lines + lines(call) - 1) / lines(call);
    std::fill(sums, sums + 2 * channels + 1, 0.0);
    if (NORM || SLOPED) {
      std::vector<A> parts(count * 3 * channels);
      chunks(call, [&](const auto &block, int64_t begin, int64_t end, int64_t k) {
        block.sum(begin, end, &parts[k * 3 * channels]);
      });
      for (int64_t k = 0; k < count; ++k)
        for (int64_t i = 0; i < 3 * channels; ++i)
          sums[std::min(i, 2 * channels)] += double(parts[k * 3 * channels + i]);
    }
    std::vector<A> means(2 * channels);
    for (int64_t i = 0; i < 2 * channels; ++i) means[i] = A(sums[i] / double(call.lines * call.width));
    call.total = means.data(), call.product = means.data() + channels;
    chunks(call, [](const auto &block, int64_t begin, int64_t end, int64_t) { block.backward(begin, end); });
  }
};

// What one layer needs, in the order of the fields of fused.py's _Layer.
struct Arguments {
  int64_t type;  // 0 float, 1 double, 2 bfloat16
  int64_t images, channels, height, width;
  int64_t threads, norm, sloped, pool, training;
  double momentum, epsilon;
  void *u, *output;
  const void *gradient;
  const void *gamma, *beta;  // this and what follows in the arithmetic's type
  void *running_mean, *running_variance;
  const void *slope;
  void *saved;      // mean, 1/√(v + ε), γ, β of all channels, then the slope
  void *gradients;  // of β, of γ, of the slope
};

template <class T> void normalize(const Arguments &given) {
  using A = typename arithmetic<T>::type;
  const int64_t channels = given.channels, rows = given.images * given.height * given.width;
  A *running_mean = static_cast<A *>(given.running_mean), *saved = static_cast<A *>(given.saved);
  A *running_variance = static_cast<A *>(given.running_variance);
  std::vector<double> mean(running_mean, running_mean + channels);
  std::vector<double> variance(running_variance, running_variance + channels);
  if (given.training) {
    statistics<T>(given.u, rows, channels, mean.data(), variance.data(), int(given.threads));
    const double keep = 1 - given.momentum, unbiased = double(rows) / double(std::max<int64_t>(1, rows - 1));
    for (int64_t c = 0; c < channels; ++c) {
      running_mean[c] = A(keep * double(running_mean[c]) + given.momentum * mean[c]);
      running_variance[c] = A(keep * double(running_variance[c]) + given.momentum * unbiased * variance[c]);
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    saved[c] = A(mean[c]);
    saved[channels + c] = A(1 / std::sqrt(variance[c] + given.epsilon));
    saved[2 * channels + c] = static_cast<const A *>(given.gamma)[c];
    saved[3 * channels + c] = static_cast<const A *>(given.beta)[c];
  }
}

template <class T> Call<T> call_of(const Arguments &given) {
  using A = typename arithmetic<T>::type;
  const A *saved = static_cast<const A *>(given.saved);
  Call<T> call{};
  call.u = static_cast<T *>(given.u), call.output = static_cast<T *>(given.output);
  call.gradient = static_cast<const T *>(given.gradient);
  call.lines = given.images * given.height, call.width = given.width, call.channels = given.channels;
  call.mean = saved, call.inverse = saved + call.channels;
  call.gamma = saved + 2 * call.channels, call.beta = saved + 3 * call.channels;
  call.slope = saved[4 * call.channels];
  call.threads = int(given.threads);
  return call;
}

// Call work with the Layer of the right kind.
template <class T, class Work> void select(const Arguments &given, const Work &work) {
  const int kind = (given.norm ? 4 : 0) + (given.sloped ? 2 : 0) + (given.pool ? 1 : 0);
  if (kind == 0) work(Layer<T, false, false, false>());
  if (kind == 1) work(Layer<T, false, false, true>());
  if (kind == 2) work(Layer<T, false, true, false>());
  if (kind == 3) work(Layer<T, false, true, true>());
  if (kind == 4) work(Layer<T, true, false, false>());
  if (kind == 5) work(Layer<T, true, false, true>());
  if (kind == 6) work(Layer<T, true, true, false>());
  if (kind == 7) work(Layer<T, true, true, true>());
}

template <class T> void forward(const Arguments &given) {
  using A = typename arithmetic<T>::type;
  if (given.norm) normalize<T>(given);
  A *slope = static_cast<A *>(given.saved) + 4 * given.channels;
  *slope = given.sloped ? *static_cast<const A *>(given.slope) : A(0);
  const auto call = call_of<T>(given);
  select<T>(given, [&](auto layer) { layer.forward(call); });
}

template <class T> void backward(const Arguments &given) {
  using A = typename arithmetic<T>::type;
  std::vector<double> sums(2 * given.channels + 1);
  const auto call = call_of<T>(given);
  select<T>(given, [&](auto layer) { layer.backward(call, sums.data()); });
  std::copy(sums.begin(), sums.end(), static_cast<A *>(given.gradients));
}

}  // namespace

extern "C" void fanin_forward(const Arguments *given) {
  if (given->type == 0) forward<float>(*given);
  if (given->type == 1) forward<double>(*given);
  if (given->type == 2) forward<bfloat16>(*given);
}

extern "C" void fanin_backward(const Arguments *given) {
  if (given->type == 0) backward<float>(*given);
  if (given->type == 1) backward<double>(*given);
  if (given->type == 2) backward<bfloat16>(*given);
}
