// One decode step of attention, from the projections to the heads' outputs, in one launch: QK-norm, rotation, the write
// of the new key and value, and attention over the cached pages.
//
// A cluster of SPLITS blocks takes one row and one key-value head. Each warp reads tiles of 16 keys straight into the
// registers that the tensor core multiplies: sums over channels and keys do not depend on their order, so every thread
// takes 16-byte pieces of a row and both operands follow the same order. The first tile is asked for before the previous
// kernel has ended, because older keys do not depend on it. Blocks exchange partial sums through distributed shared
// memory, in fixed order: no workspace, no atomics, the same bits every time.
//
// Compiled for compute capability 9.0 and later. Element types are bfloat16 and float16; the head size is D.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace {

constexpr int D = 128;
constexpr int SPLITS = 8;
constexpr int WARPS = 8;
constexpr int THREADS = 32 * WARPS;
constexpr int TILE = 16;
constexpr int MAX_GROUP = 16;
constexpr int Q_STRIDE = D + 8;   // elements: 16 bytes more than a row, so that rows fall into different banks
constexpr int OUT_STRIDE = D + 4; // floats, likewise

struct Arguments {
    const void *q, *k, *v, *q_weight, *k_weight, *cos, *sin;
    void *k_pages, *v_pages;
    const int *table, *starts, *lengths;
    void *out;
    long long stride_q_row, stride_kv_row, stride_cos_row, stride_page, stride_head, stride_slot, stride_block_table;
    int group, rotated, page_tokens;
    float eps, scale; // scale holds log2(e): the softmax runs in powers of two
};

template <typename T> struct Half;

template <> struct Half<__nv_bfloat16> {
    static __device__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
    static __device__ __nv_bfloat16 round(float x) { return __float2bfloat16_rn(x); }
    static __device__ uint32_t pack(float low, float high) {
        __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
        return *reinterpret_cast<uint32_t *>(&both);
    }
    static __device__ void multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <> struct Half<__half> {
    static __device__ float widen(__half x) { return __half2float(x); }
    static __device__ __half round(float x) { return __float2half_rn(x); }
    static __device__ uint32_t pack(float low, float high) {
        __half2 both = __floats2half2_rn(low, high);
        return *reinterpret_cast<uint32_t *>(&both);
    }
    static __device__ void multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

__device__ uint4 none() { return make_uint4(0, 0, 0, 0); }

// A load that skips the constant path: the kernel writes the last slot of the same pages.
__device__ uint4 fetch(const void *at) {
    uint4 x;
    asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at));
    return x;
}

__device__ uint32_t rank_in_cluster() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ void arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ void await() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// A float in another block's shared memory, at the place that `mine` has in this block's.
__device__ float remote(const float *mine, uint32_t block) {
    uint32_t here = static_cast<uint32_t>(__cvta_generic_to_shared(mine)), there;
    float x;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(block));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(there) : "memory");
    return x;
}

// Norm and rotation of one head vector by one warp, rounded wherever separate operations round.
template <typename T>
__device__ void norm_rotate(const T *from, const T *weight, const T *cos, const T *sin, int rotated, float eps,
                            float *scratch, T *to) {
    const int lane = threadIdx.x % 32;
    float x[D / 32], squares = 0;
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        x[i] = Half<T>::widen(from[lane + 32 * i]);
        squares += x[i] * x[i];
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
    const float scale = 1.0f / sqrtf(squares / D + eps);
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        const float normed = Half<T>::widen(Half<T>::round(x[i] * scale));
        x[i] = Half<T>::widen(Half<T>::round(normed * Half<T>::widen(weight[lane + 32 * i])));
        scratch[lane + 32 * i] = x[i];
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        const int d = lane + 32 * i, half = rotated / 2;
        T result = Half<T>::round(x[i]);
        if (d < rotated) {
            const float partner = scratch[d < half ? d + half : d - half];
            const float straight = Half<T>::widen(Half<T>::round(x[i] * Half<T>::widen(cos[d])));
            const float across = Half<T>::widen(Half<T>::round(partner * Half<T>::widen(sin[d])));
            result = Half<T>::round(d < half ? straight - across : straight + across);
        }
        to[d] = result;
    }
    __syncwarp();
}

template <typename T, bool UPPER>
__global__ void __cluster_dims__(SPLITS, 1, 1) __launch_bounds__(THREADS, 1) attention_kernel(const Arguments a) {
    extern __shared__ __align__(16) unsigned char memory[];
    T *const queries = reinterpret_cast<T *>(memory);             // [16, Q_STRIDE]
    T *const new_key = queries + 16 * Q_STRIDE;                   // [D]
    T *const new_value = new_key + D;                             // [D]
    float *const scratch = reinterpret_cast<float *>(new_value + D); // [WARPS, D]
    float *const tops = scratch + WARPS * D;                      // [WARPS, 16]
    float *const totals = tops + WARPS * 16;                      // [WARPS, 16]
    float *const block_tops = totals + WARPS * 16;                // [16]
    float *const block_totals = block_tops + 16;                  // [16]
    float *const block_out = block_totals + 16;                   // [group, D]
    float *const warp_out = block_out + a.group * D;              // [WARPS, group, OUT_STRIDE]

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int split = rank_in_cluster(), head = blockIdx.y, row = blockIdx.z;
    asm volatile("griddepcontrol.launch_dependents;");

    // Lengths, tables and older slots were written before the first kernel of this step, which waits for all before it.
    const int length = a.lengths[row], newest = length - 1;
    const int start = min(a.starts[row], newest), base = start / TILE * TILE;
    const int tiles = (length - base + TILE - 1) / TILE;
    const int *const table = a.table + row * a.stride_block_table;
    const T *const key_heads = static_cast<const T *>(a.k_pages) + head * a.stride_head;
    const T *const value_heads = static_cast<const T *>(a.v_pages) + head * a.stride_head;

    uint4 keys[2][D / 32], values[4][D / 64];
    auto slot_at = [&](int slot) {
        return table[slot / a.page_tokens] * a.stride_page + (slot % a.page_tokens) * a.stride_slot;
    };
    auto load_keys = [&](int tile) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int slot = base + tile * TILE + half * 8 + g;
            const bool there = tile < tiles && slot >= start && slot < newest;
            const T *at = there ? key_heads + slot_at(slot) + t * 8 : nullptr;
#pragma unroll
            for (int c = 0; c < D / 32; c++) keys[half][c] = there ? fetch(at + c * 32) : none();
        }
    };
    auto load_values = [&](int tile) {
#pragma unroll
        for (int which = 0; which < 4; which++) {
            const int slot = base + tile * TILE + 2 * t + which % 2 + which / 2 * 8;
            const bool there = tile < tiles && slot >= start && slot < newest;
            const T *at = there ? value_heads + slot_at(slot) + g * 8 : nullptr;
#pragma unroll
            for (int c = 0; c < D / 64; c++) values[which][c] = there ? fetch(at + c * 64) : none();
        }
    };
    int tile = warp * SPLITS + split;
    load_keys(tile);
    load_values(tile);

    asm volatile("griddepcontrol.wait;" ::: "memory");
    const bool writes = (tiles - 1) % SPLITS == split; // this block's tiles hold the newest slot
    const T *const cos = static_cast<const T *>(a.cos) + row * a.stride_cos_row;
    const T *const sin = static_cast<const T *>(a.sin) + row * a.stride_cos_row;
    for (int h = warp; h < a.group + (writes ? 1 : 0); h += WARPS) {
        if (h < a.group) {
            const T *from = static_cast<const T *>(a.q) + row * a.stride_q_row + (head * a.group + h) * D;
            norm_rotate(from, static_cast<const T *>(a.q_weight), cos, sin, a.rotated, a.eps, scratch + warp * D,
                        queries + h * Q_STRIDE);
        } else {
            const T *from = static_cast<const T *>(a.k) + row * a.stride_kv_row + head * D;
            norm_rotate(from, static_cast<const T *>(a.k_weight), cos, sin, a.rotated, a.eps, scratch + warp * D,
                        new_key);
            const long long at = head * a.stride_head + slot_at(newest);
            const T *value = static_cast<const T *>(a.v) + row * a.stride_kv_row + head * D;
#pragma unroll
            for (int d = lane; d < D; d += 32) {
                static_cast<T *>(a.k_pages)[at + d] = new_key[d];
                static_cast<T *>(a.v_pages)[at + d] = new_value[d] = value[d];
            }
        }
    }
    __syncthreads();

    uint32_t query[D / 32][2][4];
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        const uint4 low = g < a.group ? *reinterpret_cast<const uint4 *>(queries + g * Q_STRIDE + c * 32 + t * 8) : none();
        uint4 high = none();
        if (UPPER && g + 8 < a.group) {
            high = *reinterpret_cast<const uint4 *>(queries + (g + 8) * Q_STRIDE + c * 32 + t * 8);
        }
        query[c][0][0] = low.x, query[c][0][1] = high.x, query[c][0][2] = low.y, query[c][0][3] = high.y;
        query[c][1][0] = low.z, query[c][1][1] = high.z, query[c][1][2] = low.w, query[c][1][3] = high.w;
    }

    float out[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    for (; tile < tiles; tile += WARPS * SPLITS) {
        const int first = base + tile * TILE;
        if (first <= newest && newest < first + TILE) {
            const int last = newest - first;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if (last == half * 8 + g) {
#pragma unroll
                    for (int c = 0; c < D / 32; c++) {
                        keys[half][c] = *reinterpret_cast<const uint4 *>(new_key + c * 32 + t * 8);
                    }
                }
            }
#pragma unroll
            for (int which = 0; which < 4; which++) {
                if (last == 2 * t + which % 2 + which / 2 * 8) {
#pragma unroll
                    for (int c = 0; c < D / 64; c++) {
                        values[which][c] = *reinterpret_cast<const uint4 *>(new_value + c * 64 + g * 8);
                    }
                }
            }
        }
        float scores[2][4] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int c = 0; c < D / 32; c++) {
                Half<T>::multiply(scores[half], query[c][0], keys[half][c].x, keys[half][c].y);
                Half<T>::multiply(scores[half], query[c][1], keys[half][c].z, keys[half][c].w);
            }
        }
        load_keys(tile + WARPS * SPLITS);
        float higher[2] = {top[0], top[1]};
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int slot = first + half * 8 + 2 * t + i % 2;
                if (slot < start || slot > newest) scores[half][i] = -INFINITY;
                higher[i / 2] = fmaxf(higher[i / 2], scores[half][i]);
            }
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            higher[r] = fmaxf(higher[r], __shfl_xor_sync(~0u, higher[r], 1));
            higher[r] = fmaxf(higher[r], __shfl_xor_sync(~0u, higher[r], 2));
        }
        float rescale[2], p[2][4];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            rescale[r] = exp2f((top[r] - higher[r]) * a.scale);
            total[r] *= rescale[r];
            top[r] = higher[r];
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[half][i] = exp2f((scores[half][i] - higher[i / 2]) * a.scale);
                total[i / 2] += p[half][i];
            }
        }
        const uint32_t weights[4] = {Half<T>::pack(p[0][0], p[0][1]), Half<T>::pack(p[0][2], p[0][3]),
                                     Half<T>::pack(p[1][0], p[1][1]), Half<T>::pack(p[1][2], p[1][3])};
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) out[n][i] *= rescale[i / 2];
        }
#pragma unroll
        for (int c = 0; c < D / 64; c++) {
            const uint32_t *v0 = reinterpret_cast<const uint32_t *>(&values[0][c]);
            const uint32_t *v1 = reinterpret_cast<const uint32_t *>(&values[1][c]);
            const uint32_t *v2 = reinterpret_cast<const uint32_t *>(&values[2][c]);
            const uint32_t *v3 = reinterpret_cast<const uint32_t *>(&values[3][c]);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const uint32_t take = j % 2 ? 0x7632 : 0x5410; // the upper or the lower halves of both words
                Half<T>::multiply(out[c * 8 + j], weights, __byte_perm(v0[j / 2], v1[j / 2], take),
                                  __byte_perm(v2[j / 2], v3[j / 2], take));
            }
        }
        load_values(tile + WARPS * SPLITS);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(~0u, total[r], 1);
        total[r] += __shfl_xor_sync(~0u, total[r], 2);
    }

#pragma unroll
    for (int r = 0; r < (UPPER ? 2 : 1); r++) {
        const int h = g + 8 * r;
        if (t == 0) tops[warp * 16 + h] = top[r], totals[warp * 16 + h] = total[r];
        if (h >= a.group) continue;
        float *const mine = warp_out + (warp * a.group + h) * OUT_STRIDE;
#pragma unroll
        for (int c = 0; c < D / 64; c++) {
#pragma unroll
            for (int side = 0; side < 2; side++) {
                float *const at = mine + c * 64 + 16 * t + 8 * side;
#pragma unroll
                for (int j = 0; j < 8; j += 4) {
                    *reinterpret_cast<float4 *>(at + j) =
                        make_float4(out[c * 8 + j][2 * r + side], out[c * 8 + j + 1][2 * r + side],
                                    out[c * 8 + j + 2][2 * r + side], out[c * 8 + j + 3][2 * r + side]);
                }
            }
        }
    }
    __syncthreads();

    // Warps of this block into one partial result; a warp that saw no key has a maximum of minus infinity.
    for (int at = threadIdx.x * 4; at < a.group * D; at += THREADS * 4) {
        const int h = at / D, d = at % D;
        float most = -INFINITY;
#pragma unroll
        for (int w = 0; w < WARPS; w++) most = fmaxf(most, tops[w * 16 + h]);
        float4 sum = make_float4(0, 0, 0, 0);
        float all = 0;
        if (most > -INFINITY) {
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                const float weight = exp2f((tops[w * 16 + h] - most) * a.scale);
                const float4 part = *reinterpret_cast<const float4 *>(warp_out + (w * a.group + h) * OUT_STRIDE + d);
                sum.x += weight * part.x, sum.y += weight * part.y;
                sum.z += weight * part.z, sum.w += weight * part.w;
                all += weight * totals[w * 16 + h];
            }
        }
        *reinterpret_cast<float4 *>(block_out + at) = sum;
        if (d == 0) block_tops[h] = most, block_totals[h] = all;
    }
    arrive();
    await();

    // Every block finishes its share of the heads' channels.
    const int share = a.group * D / SPLITS;
    for (int i = threadIdx.x; i < share; i += THREADS) {
        const int at = split * share + i, h = at / D;
        float part[SPLITS], weight[SPLITS], all = 0, sum = 0, most = -INFINITY;
#pragma unroll
        for (int s = 0; s < SPLITS; s++) {
            weight[s] = remote(block_tops + h, s);
            part[s] = remote(block_out + at, s);
            most = fmaxf(most, weight[s]);
        }
#pragma unroll
        for (int s = 0; s < SPLITS; s++) {
            weight[s] = exp2f((weight[s] - most) * a.scale);
            all += weight[s] * remote(block_totals + h, s);
            sum += weight[s] * part[s];
        }
        T *const result = static_cast<T *>(a.out) + (static_cast<long long>(row) * gridDim.y + head) * a.group * D;
        result[at] = Half<T>::round(sum / all);
    }
    // No block may leave while another still reads its memory.
    arrive();
    await();
}

size_t shared_bytes(int group) {
    const size_t halves = 16 * Q_STRIDE + 2 * D;
    const size_t floats = WARPS * D + 2 * WARPS * 16 + 2 * 16 + group * D + WARPS * group * OUT_STRIDE;
    return halves * sizeof(__half) + floats * sizeof(float);
}

template <typename T, bool UPPER>
cudaError_t launch(const Arguments &arguments, int kv_heads, int batch, cudaStream_t stream) {
    const auto kernel = attention_kernel<T, UPPER>;
    static const cudaError_t raised =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes(MAX_GROUP));
    if (raised != cudaSuccess) return raised;
    cudaLaunchAttribute early;
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(SPLITS, kv_heads, batch);
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = shared_bytes(arguments.group);
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, arguments);
}

} // namespace

// pointers: q, k, v, q_weight, k_weight, cos, sin, k_pages, v_pages, table, starts, lengths, out.
// strides: q row, k and v row, cos and sin row, page, head, slot, table row; in elements.
// sizes: batch, kv_heads, group, rotated, page_tokens, 1 for bfloat16 and 0 for float16.
// Gives CUDA's error, or null.
extern "C" const char *cluster_attention(void *const *pointers, const long long *strides, const long long *sizes, float eps,
                                         float scale, void *stream) {
    Arguments a;
    a.q = pointers[0], a.k = pointers[1], a.v = pointers[2];
    a.q_weight = pointers[3], a.k_weight = pointers[4], a.cos = pointers[5], a.sin = pointers[6];
    a.k_pages = pointers[7], a.v_pages = pointers[8];
    a.table = static_cast<const int *>(pointers[9]), a.starts = static_cast<const int *>(pointers[10]);
    a.lengths = static_cast<const int *>(pointers[11]), a.out = pointers[12];
    a.stride_q_row = strides[0], a.stride_kv_row = strides[1], a.stride_cos_row = strides[2];
    a.stride_page = strides[3], a.stride_head = strides[4], a.stride_slot = strides[5], a.stride_block_table = strides[6];
    const int batch = sizes[0], kv_heads = sizes[1];
    a.group = sizes[2], a.rotated = sizes[3], a.page_tokens = sizes[4];
    a.eps = eps, a.scale = scale;
    const auto on = static_cast<cudaStream_t>(stream);
    const bool upper = a.group > 8;
    cudaError_t error;
    if (sizes[5]) {
        error = upper ? launch<__nv_bfloat16, true>(a, kv_heads, batch, on)
                      : launch<__nv_bfloat16, false>(a, kv_heads, batch, on);
    } else {
        error = upper ? launch<__half, true>(a, kv_heads, batch, on) : launch<__half, false>(a, kv_heads, batch, on);
    }
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
