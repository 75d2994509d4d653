// The operations of operations.py in one pass each, for the CPU, called through ctypes: plain C, so that it builds in
// seconds with any compiler. Rows are shared out over the threads; the inner loops are written so that the compiler
// vectorises them. All arithmetic is fp32, rounded once where it is stored. `bf16` tells the element type of every T.
#include <omp.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct Bf16 {
  uint16_t bits;
};

inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float load(const float& value) { return value; }
inline float load(const Bf16& value) { return bits_to_float(uint32_t(value.bits) << 16); }
inline void store(float& to, float value) { to = value; }
inline void store(Bf16& to, float value) {  // to nearest, ties to even
  const uint32_t bits = float_to_bits(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = value != value ? uint16_t(0x7fc0) : uint16_t(rounded);
}

// Cody and Waite's reduction and a polynomial of degree 6: relative error below 2e-7.
inline float exponential(float x) {
  x = x > 88.0f ? 88.0f : (x < -87.0f ? -87.0f : x);
  const float turns = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float rest = (x - turns * 0.693359375f) + turns * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  return sum * bits_to_float(uint32_t(int32_t(turns) + 127) << 23);
}

constexpr float ROOT = 0.7978845608f, CUBE = 0.044715f;  // of GELU's tanh form

inline float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

struct Gelu {  // in its tanh form
  static inline float value(float a) {
    return 0.5f * a * (1.0f + hyperbolic_tangent(ROOT * (a + CUBE * a * a * a)));
  }
  static inline void both(float a, float& active, float& slope) {
    const float t = hyperbolic_tangent(ROOT * (a + CUBE * a * a * a));
    active = 0.5f * a * (1.0f + t);
    slope = 0.5f * (1.0f + t) + 0.5f * a * (1.0f - t * t) * ROOT * (1.0f + 3.0f * CUBE * a * a);
  }
};

struct Silu {
  static inline float value(float a) { return a / (1.0f + exponential(-a)); }
  static inline void both(float a, float& active, float& slope) {
    const float s = 1.0f / (1.0f + exponential(-a));
    active = a * s;
    slope = s * (1.0f + a * (1.0f - s));
  }
};

// Dropout without a stored mask: a hash of the element's number under the call's seed (Wellons' lowbias32), so that
// the backward pass draws the same again.
struct Dropout {
  uint32_t seed;
  uint32_t threshold;
  float scale;

  Dropout(float p, uint32_t seed) : seed(seed), threshold(uint32_t(p * 4294967296.0)), scale(1.0f / (1.0f - p)) {}

  inline float factor(uint32_t n) const {
    uint32_t x = n ^ seed;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x < threshold ? 0.0f : scale;
  }
};

// `work` with a value of the element type: float or Bf16.
template <typename Work>
void by_dtype(bool bf16, Work work) {
  if (bf16) {
    work(Bf16());
  } else {
    work(float());
  }
}

// `work` with an activation, by its number.
template <typename Work>
void by_activation(int kind, Work work) {
  if (kind == 0) {
    work(Gelu());
  } else {
    work(Silu());
  }
}

// Takes numbers below the smallest normal one for 0 while it lives: processors are tens of times slower on them, and
// the far ends of a softmax are full of them.
struct NoSubnormals {
#if defined(__SSE__)
  const unsigned before = _mm_getcsr();
  NoSubnormals() { _mm_setcsr(before | 0x8040u); }
  ~NoSubnormals() { _mm_setcsr(before); }
#endif
};

// work(begin, end, thread) over parts of `rows` that cost about `width` each; small work stays on one thread.
// Each thread works on a copy, whose captures (by value) nobody else can change: else compilers do not vectorise it.
template <typename Work>
void share_out(int64_t rows, int64_t width, int threads, Work work) {
  const int64_t least = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
  const int parts = int(std::min<int64_t>(threads, std::max<int64_t>(1, rows / least)));
  if (parts == 1) {
    const NoSubnormals flushed;
    work(int64_t(0), rows, 0);
    return;
  }
#pragma omp parallel num_threads(parts)
  {
    const int part = omp_get_thread_num();
    const int64_t each = (rows + parts - 1) / parts;
    const Work own = work;
    const NoSubnormals flushed;
    own(std::min(rows, part * each), std::min(rows, (part + 1) * each), part);
  }
}

}  // namespace

extern "C" {

// ---- RMS norm: y = x / rms(x) * (weight + offset), and `inverse` (rows) of the rms

void rms_norm(bool bf16, int threads, int64_t rows, int64_t width, const void* x, const void* weight, float offset,
              float eps, void* y, float* inverse) {
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    const T *in = (const T*)x, *scale = (const T*)weight;
    T* out = (T*)y;
    share_out(rows, width, threads, [=](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const T* from = in + row * width;
        T* to = out + row * width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; ++i) sum += load(from[i]) * load(from[i]);
        const float factor = 1.0f / std::sqrt(sum / float(width) + eps);
        inverse[row] = factor;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) store(to[i], load(from[i]) * factor * (load(scale[i]) + offset));
      }
    });
  });
}

// dx, which may take the place of dy; and where `sums` (threads, width), zeros, is given, each thread's part of
// d(weight)
void rms_norm_backward(bool bf16, int threads, int64_t rows, int64_t width, const void* dy, const void* x,
                       const void* weight, float offset, const float* inverse, void* dx, float* sums) {
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    const T *in = (const T*)x, *scale = (const T*)weight, *gradient = (const T*)dy;
    T* out = (T*)dx;
    share_out(rows, width, threads, [=](int64_t begin, int64_t end, int thread) {
      float* own = sums ? sums + thread * width : nullptr;
      for (int64_t row = begin; row < end; ++row) {
        const T *from = in + row * width, *by = gradient + row * width;
        T* to = out + row * width;
        const float factor = inverse[row];
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; ++i) sum += load(by[i]) * (load(scale[i]) + offset) * load(from[i]);
        const float shared = sum * factor * factor / float(width);
        if (own) {
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) own[i] += load(by[i]) * load(from[i]) * factor;
        }
#pragma omp simd
        for (int64_t i = 0; i < width; ++i)
          store(to[i], factor * (load(by[i]) * (load(scale[i]) + offset) - load(from[i]) * shared));
      }
    });
  });
}

// ---- gated activation: y (rows, width) = dropout(activation(gate) * value). The rows of gate and value lie `stride`
// elements apart. `kind` is 0 for GELU's tanh form and 1 for SiLU.

void gated(bool bf16, int threads, int64_t rows, int64_t width, int64_t stride, const void* gate, const void* value,
           int kind, float p, uint32_t seed, void* y) {
  const Dropout dropout(p, seed);
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    const T *gates = (const T*)gate, *values = (const T*)value;
    T* out = (T*)y;
    by_activation(kind, [&](auto activation) {
      share_out(rows, width, threads, [=](int64_t begin, int64_t end, int) {
        const Dropout drawn = dropout;  // that no store can be taken to change
        for (int64_t row = begin; row < end; ++row) {
          const T *a = gates + row * stride, *b = values + row * stride;
          T* to = out + row * width;
          const uint32_t first = uint32_t(row * width);
          if (p > 0) {
#pragma omp simd
            for (int64_t i = 0; i < width; ++i)
              store(to[i], activation.value(load(a[i])) * load(b[i]) * drawn.factor(first + uint32_t(i)));
          } else {
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) store(to[i], activation.value(load(a[i])) * load(b[i]));
          }
        }
      });
    });
  });
}

// The rows of dgate and dvalue lie `stride` elements apart, too.
void gated_backward(bool bf16, int threads, int64_t rows, int64_t width, int64_t stride, const void* dy,
                    const void* gate, const void* value, int kind, float p, uint32_t seed, void* dgate, void* dvalue) {
  const Dropout dropout(p, seed);
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    const T *gates = (const T*)gate, *values = (const T*)value, *gradient = (const T*)dy;
    T *dgates = (T*)dgate, *dvalues = (T*)dvalue;
    by_activation(kind, [&](auto activation) {
      share_out(rows, width, threads, [=](int64_t begin, int64_t end, int) {
        const Dropout drawn = dropout;  // that no store can be taken to change
        for (int64_t row = begin; row < end; ++row) {
          const T *from_gate = gates + row * stride, *from_value = values + row * stride, *by = gradient + row * width;
          T *to_gate = dgates + row * stride, *to_value = dvalues + row * stride;
          const uint32_t first = uint32_t(row * width);
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) {
            const float a = load(from_gate[i]), b = load(from_value[i]);
            const float d = load(by[i]) * (p > 0 ? drawn.factor(first + uint32_t(i)) : 1.0f);
            float active, slope;
            activation.both(a, active, slope);
            store(to_gate[i], d * b * slope);
            store(to_value[i], d * active);
          }
        }
      });
    });
  });
}

// ---- rotary embedding: the heads of `tokens`, which lie one after another, rotated and moved to their places.
// y (places, heads, width) gets x (tokens, heads, width) with the first `rotary` numbers of every head rotated, pairs
// being rotary / 2 apart, by the angles of the token's position. cosines and sines are (positions, rotary). With
// `back` the heads at places[token] are turned back and go to the token: the gradient.

void rotate(bool bf16, int threads, int64_t tokens, int64_t heads, int64_t width, int64_t rotary, const void* x,
            const float* cosines, const float* sines, const int64_t* positions, const int64_t* places, bool back,
            void* y) {
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    const T* in = (const T*)x;
    T* out = (T*)y;
    const int64_t half = rotary / 2, all = heads * width;
    const float sign = back ? -1.0f : 1.0f;
    share_out(tokens, 2 * all, threads, [=](int64_t begin, int64_t end, int) {
      for (int64_t token = begin; token < end; ++token) {
        const T* from = in + (back ? places[token] : token) * all;
        T* to = out + (back ? token : places[token]) * all;
        if (rotary == 0) {
          std::memcpy((void*)to, (const void*)from, all * sizeof(T));
          continue;
        }
        const float *c = cosines + positions[token] * rotary, *s = sines + positions[token] * rotary;
        for (int64_t head = 0; head < heads; ++head, from += width, to += width) {
#pragma omp simd
          for (int64_t i = 0; i < half; ++i) {
            const float a = load(from[i]), b = load(from[i + half]);
            store(to[i], a * c[i] - b * s[i] * sign);
            store(to[i + half], b * c[i] + a * s[i] * sign);
          }
          for (int64_t i = rotary; i < width; ++i) to[i] = from[i];
        }
      }
    });
  });
}

// ---- y = dropout(x), plus `residual` where it is given

void add_dropout(bool bf16, int threads, int64_t count, const void* residual, const void* x, float p, uint32_t seed,
                 void* y) {
  const Dropout dropout(p, seed);
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    const T *from = (const T*)x, *other = (const T*)residual;
    T* to = (T*)y;
    share_out(count, 1, threads, [=](int64_t begin, int64_t end, int) {
      const Dropout drawn = dropout;
      if (other) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i)
          store(to[i], load(other[i]) + load(from[i]) * drawn.factor(uint32_t(i)));
      } else {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) store(to[i], load(from[i]) * drawn.factor(uint32_t(i)));
      }
    });
  });
}

// ---- attention's probabilities of scores (examples, heads, queries, keys): softmax(scores + bias) over the first
// lengths[example] keys, and of them those up to the query where `causal`. They replace the scores. With p > 0 `dropped`
// gets them after dropout, and a dropped one is kept with its sign turned, so that one tensor serves the backward pass.

void attention_probabilities(bool bf16, int threads, int64_t examples, int64_t heads, int64_t queries, int64_t keys,
                             void* scores, const float* bias, const int64_t* lengths, bool causal, float p,
                             uint32_t seed, void* dropped) {
  const Dropout dropout(p, seed);
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    T *in = (T*)scores, *out = (T*)dropped;
    share_out(examples * heads * queries, 4 * keys, threads, [=](int64_t begin, int64_t end, int) {
      const Dropout drawn = dropout;
      std::vector<float> line(keys);
      float* l = line.data();
      for (int64_t row = begin; row < end; ++row) {
        const int64_t query = row % queries, head = row / queries % heads, example = row / queries / heads;
        int64_t seen = lengths[example];
        if (causal) seen = std::min(seen, query + 1);
        T* from = in + row * keys;
        float highest = -INFINITY, sum = 0;
        if (bias) {
          const float* added = bias + (head * queries + query) * keys;
#pragma omp simd
          for (int64_t i = 0; i < seen; ++i) l[i] = load(from[i]) + added[i];
        } else {
#pragma omp simd
          for (int64_t i = 0; i < seen; ++i) l[i] = load(from[i]);
        }
#pragma omp simd reduction(max : highest)
        for (int64_t i = 0; i < seen; ++i) highest = l[i] > highest ? l[i] : highest;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < seen; ++i) {
          l[i] = exponential(l[i] - highest);
          sum += l[i];
        }
        const float factor = 1.0f / sum;
        if (p > 0) {
          T* to = out + row * keys;
          const uint32_t first = uint32_t(row * keys);
#pragma omp simd
          for (int64_t i = 0; i < seen; ++i) {
            const float kept = drawn.factor(first + uint32_t(i)), probability = l[i] * factor;
            store(to[i], probability * kept);
            store(from[i], kept > 0 ? probability : -probability);
          }
          std::memset((void*)(to + seen), 0, (keys - seen) * sizeof(T));
        } else {
#pragma omp simd
          for (int64_t i = 0; i < seen; ++i) store(from[i], l[i] * factor);
        }
        std::memset((void*)(from + seen), 0, (keys - seen) * sizeof(T));
      }
    });
  });
}

// d(dropped) becomes d(scores); `sums` (heads, queries, keys), zeros, gets their sum over examples where it is given;
// `dropped` gets the probabilities after dropout again where it is given.
void attention_probabilities_backward(bool bf16, int threads, int64_t examples, int64_t heads, int64_t queries,
                                      int64_t keys, void* gradient, const void* probabilities, float p, float* sums,
                                      void* dropped) {
  const float scale = 1.0f / (1.0f - p);
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    share_out(heads * queries, 4 * keys * examples, threads, [=](int64_t begin, int64_t end, int) {
      for (int64_t line = begin; line < end; ++line) {
        float* bias = sums ? sums + line * keys : nullptr;
        for (int64_t example = 0; example < examples; ++example) {
          const int64_t at = (example * heads * queries + line) * keys;
          const T* share = (const T*)probabilities + at;
          T* by = (T*)gradient + at;
          float sum = 0;
#pragma omp simd reduction(+ : sum)
          for (int64_t i = 0; i < keys; ++i) {
            const float value = load(share[i]);
            sum += (value > 0 ? value : 0.0f) * load(by[i]);
          }
          sum *= scale;
#pragma omp simd
          for (int64_t i = 0; i < keys; ++i) {
            const float value = load(share[i]);
            store(by[i], value > 0 ? value * (load(by[i]) * scale - sum) : value * sum);
          }
          if (bias) {
#pragma omp simd
            for (int64_t i = 0; i < keys; ++i) bias[i] += load(by[i]);
          }
          if (dropped) {
            T* to = (T*)dropped + at;
#pragma omp simd
            for (int64_t i = 0; i < keys; ++i) {
              const float value = load(share[i]);
              store(to[i], value > 0 ? value * scale : 0.0f);
            }
          }
        }
      }
    });
  });
}

// ---- attention of one query a head (examples, heads, width), while a text is written: y = softmax(cap(q kT) + bias) v
// over the last `window` (0: all) of the first lengths[example] keys, which are those of place slots[example] (none: of
// the example itself). `shared` heads follow each other that have the same keys and values, which lie `by_place`,
// `by_head` and `width` elements apart. cap(s) is cap · tanh(s / cap), or s where `cap` is 0.

void attend(bool bf16, int threads, int64_t examples, int64_t heads, int64_t shared, int64_t width, int64_t by_place,
            int64_t by_head, const void* q, const void* k, const void* v, const float* bias, int64_t biases,
            const int64_t* slots, const int64_t* lengths, int64_t window, float cap, void* y) {
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    int64_t longest = 1;
    for (int64_t i = 0; i < examples; ++i) longest = std::max(longest, lengths[i]);
    share_out(examples * heads, 4 * width * longest, threads, [=](int64_t begin, int64_t end, int) {
      std::vector<float> shares(longest), query(width), sums(width);
      float *l = shares.data(), *to = sums.data(), *from = query.data();
      for (int64_t row = begin; row < end; ++row) {
        const int64_t head = row % heads, example = row / heads;
        const int64_t first = window > 0 ? std::max<int64_t>(0, lengths[example] - window) : 0;
        const int64_t seen = lengths[example] - first;
        const int64_t at = (slots ? slots[example] : example) * by_place + head / shared * by_head + first * width;
        const T *keys = (const T*)k + at, *values = (const T*)v + at;
        for (int64_t i = 0; i < width; ++i) from[i] = load(((const T*)q)[row * width + i]);
        float highest = -INFINITY, sum = 0;
        for (int64_t t = 0; t < seen; ++t) {
          float score = 0;
#pragma omp simd reduction(+ : score)
          for (int64_t i = 0; i < width; ++i) score += from[i] * load(keys[t * width + i]);
          if (cap > 0) score = cap * hyperbolic_tangent(score / cap);
          l[t] = score + (bias ? bias[head * biases + first + t] : 0.0f);
          highest = std::max(highest, l[t]);
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t t = 0; t < seen; ++t) {
          l[t] = exponential(l[t] - highest);
          sum += l[t];
        }
        std::fill(to, to + width, 0.0f);
        for (int64_t t = 0; t < seen; ++t) {
          const float share = l[t];
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) to[i] += share * load(values[t * width + i]);
        }
        T* out = (T*)y + row * width;
        const float factor = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) store(out[i], to[i] * factor);
      }
    });
  });
}

// ---- cross-entropy of each row; the logits become its gradient

void cross_entropy(bool bf16, int threads, int64_t rows, int64_t width, void* logits, const int64_t* targets,
                   float* losses) {
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    share_out(rows, width, threads, [=](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        T* line = (T*)logits + row * width;
        const float wanted = load(line[targets[row]]);
        float highest = -INFINITY, sum = 0;
#pragma omp simd reduction(max : highest)
        for (int64_t i = 0; i < width; ++i) {
          const float value = load(line[i]);
          highest = value > highest ? value : highest;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; ++i) sum += exponential(load(line[i]) - highest);
        losses[row] = std::log(sum) + highest - wanted;
        const float factor = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) store(line[i], exponential(load(line[i]) - highest) * factor);
        store(line[targets[row]], exponential(wanted - highest) * factor - 1.0f);
      }
    });
  });
}

// ---- AdamW on bf16 weights with exact fp32 masters: the master's bits are (weight << 16) + rest, the weight being
// the master rounded to nearest.

double squared_norm(bool bf16, int threads, int64_t count, const void* gradient) {
  double total = 0;
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    const T* from = (const T*)gradient;
    std::vector<double> sums(threads, 0.0);
    double* parts = sums.data();
    share_out(count, 1, threads, [=](int64_t begin, int64_t end, int thread) {
      for (int64_t start = begin; start < end; start += 4096) {
        const int64_t stop = std::min(end, start + 4096);
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = start; i < stop; ++i) part += load(from[i]) * load(from[i]);
        parts[thread] += part;
      }
    });
    for (double sum : sums) total += sum;
  });
  return total;
}

// One step of AdamW on bf16 weights whose fp32 values are held exactly: `rests` are what the weights lack. Gradients are
// bf16 or fp32. `scale` multiplies the gradient (clipping), `shrink` the weight (decay); `size` is the step's, `root` what
// the second moment's square root is multiplied by, both corrected for their bias.
void adamw(bool bf16, int threads, int64_t count, void* weights, int16_t* rests, const void* gradients, float* firsts,
           float* seconds, float scale, float beta1, float beta2, float eps, float shrink, float size, float root) {
  by_dtype(bf16, [&](auto zero) {
    using T = decltype(zero);
    Bf16* weight = (Bf16*)weights;
    const T* gradient = (const T*)gradients;
    share_out(count, 1, threads, [=](int64_t begin, int64_t end, int) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const float g = load(gradient[i]) * scale;
        const float m = beta1 * firsts[i] + (1.0f - beta1) * g;
        const float v = beta2 * seconds[i] + (1.0f - beta2) * g * g;
        firsts[i] = m;
        seconds[i] = v;
        const uint32_t bits = (uint32_t(weight[i].bits) << 16) + uint32_t(int32_t(rests[i]));
        const uint32_t now = float_to_bits(bits_to_float(bits) * shrink - size * m / (std::sqrt(v) * root + eps));
        weight[i].bits = uint16_t((now + 0x8000u) >> 16);  // ties upwards, so that the rest fits 16 bits
        rests[i] = int16_t(uint16_t(now));
      }
    });
  });
}

}  // extern "C"
