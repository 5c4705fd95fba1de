#include "cuda/gemm_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <map>
#include <string>
#include <tuple>

namespace gnv::cuda {

namespace {

constexpr int64_t reference_rows = 4096; // for which algorithms are chosen
constexpr size_t workspace_bytes = 32 << 20;
#if CUBLAS_VERSION >= 120800 // the first with block scales
constexpr bool has_fp4 = true;
constexpr cudaDataType_t fp4_type = CUDA_R_4F_E2M1;
#else
constexpr bool has_fp4 = false;
constexpr cudaDataType_t fp4_type = CUDA_R_16BF;
#endif

// Every function of the library that is used, found by name.
struct Library {
    void * handle = nullptr;
    decltype(&cublasLtCreate) create = nullptr;
    decltype(&cublasLtDestroy) destroy = nullptr;
    decltype(&cublasLtMatmul) matmul = nullptr;
    decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
    decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
    decltype(&cublasLtMatmulAlgoConfigGetAttribute) algo_get = nullptr;
    decltype(&cublasLtGetStatusString) status_string = nullptr;

    template <class Function>
    bool find(Function & function, const char * name) {
        function = reinterpret_cast<Function>(dlsym(handle, name));
        return function != nullptr;
    }
    bool find_all() {
        return find(create, "cublasLtCreate") && find(destroy, "cublasLtDestroy") && find(matmul, "cublasLtMatmul") &&
               find(desc_create, "cublasLtMatmulDescCreate") && find(desc_destroy, "cublasLtMatmulDescDestroy") &&
               find(desc_set, "cublasLtMatmulDescSetAttribute") && find(layout_create, "cublasLtMatrixLayoutCreate") &&
               find(layout_destroy, "cublasLtMatrixLayoutDestroy") &&
               find(preference_create, "cublasLtMatmulPreferenceCreate") &&
               find(preference_destroy, "cublasLtMatmulPreferenceDestroy") &&
               find(preference_set, "cublasLtMatmulPreferenceSetAttribute") &&
               find(heuristic, "cublasLtMatmulAlgoGetHeuristic") &&
               find(algo_get, "cublasLtMatmulAlgoConfigGetAttribute") && find(status_string, "cublasLtGetStatusString");
    }
};

} // namespace

struct GemmLt::State {
    Library library;
    cublasLtHandle_t handle = nullptr;
    void * workspace = nullptr;
    bool fp4 = false; // the device multiplies it
    // By n, k, a_stride, d_stride, d_step, alpha, FP4: by all that an algorithm is chosen for.
    using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool>;
    std::map<Key, cublasLtMatmulAlgo_t> algorithms;
    std::map<Key, bool> known; // whether FP4 has an algorithm

    Result<const cublasLtMatmulAlgo_t *> algorithm_for(const Call & call);
    Status multiply(cudaStream_t stream, const Call & call);
    Status failure(cublasStatus_t status, const std::string & action) const {
        const Code code = status == CUBLAS_STATUS_ALLOC_FAILED ? Code::out_of_memory : Code::device;
        return fail(code, "cuBLASLt: ", action, ": ", library.status_string(status));
    }
    ~State() {
        if (workspace) (void)cudaFree(workspace);
        if (handle) (void)library.destroy(handle);
        if (library.handle) (void)dlclose(library.handle);
    }
};

GemmLt::GemmLt(std::unique_ptr<State> state) : state_(std::move(state)) {}
GemmLt::~GemmLt() = default;

Result<std::unique_ptr<GemmLt>> GemmLt::load() {
    auto state = std::make_unique<State>();
    Library & library = state->library;
    const std::string versioned = concat("libcublasLt.so.", CUBLAS_VER_MAJOR);
    for (const std::string & name : {versioned, "/usr/local/cuda/lib64/" + versioned}) {
        library.handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library.handle) break;
    }
    if (!library.handle || !library.find_all())
        return fail(Code::unsupported, versioned,
                    " was not found: install the CUDA toolkit's cuBLAS, or put its folder on ", "LD_LIBRARY_PATH (",
                    library.handle ? "it lacks functions" : dlerror(), ")");
    const cublasStatus_t status = library.create(&state->handle);
    if (status != CUBLAS_STATUS_SUCCESS) return state->failure(status, "cannot start");
    if (cudaMalloc(&state->workspace, workspace_bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return Status(Code::out_of_memory, "cannot allocate 32 MiB of device memory for cuBLASLt");
    }
    int device = 0, major = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess)
        return fail(Code::device, "cuBLASLt: ", cudaGetErrorString(cudaGetLastError()));
    state->fp4 = has_fp4 && (major == 10 || major == 12);
    return std::unique_ptr<GemmLt>(new GemmLt(std::move(state)));
}

namespace {

// The descriptions of one product; row-major matrices are cuBLAS's column-major ones transposed: D^T = W A^T.
class Product {
  public:
    // `scales`: of w and of a, both in FP4; null: BF16.
    Product(const Library & library, int64_t m, int64_t n, int64_t k, int64_t a_stride, int64_t d_stride, bool alpha,
            const void * const * scales)
        : library_(library) {
        const cudaDataType_t type = scales ? fp4_type : CUDA_R_16BF;
        const cublasOperation_t transpose = CUBLAS_OP_T;
        keep(library.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
        const int32_t mode = alpha ? CUBLASLT_POINTER_MODE_DEVICE : CUBLASLT_POINTER_MODE_HOST;
        keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode));
#if CUBLAS_VERSION >= 120800
        if (scales) {
            const int32_t blocks = CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3;
            keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &blocks, sizeof blocks));
            keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &blocks, sizeof blocks));
            keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &scales[0], sizeof scales[0]));
            keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &scales[1], sizeof scales[1]));
        }
#endif
        keep(library.layout_create(&w, type, uint64_t(k), uint64_t(n), k));
        keep(library.layout_create(&a, type, uint64_t(k), uint64_t(m), a_stride));
        keep(library.layout_create(&d, CUDA_R_16BF, uint64_t(n), uint64_t(m), d_stride));
    }
    ~Product() {
        if (d) (void)library_.layout_destroy(d);
        if (a) (void)library_.layout_destroy(a);
        if (w) (void)library_.layout_destroy(w);
        if (desc) (void)library_.desc_destroy(desc);
    }
    Product(const Product &) = delete;
    Product & operator=(const Product &) = delete;

    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t w = nullptr, a = nullptr, d = nullptr;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS; // the first failure

  private:
    void keep(cublasStatus_t found) {
        if (status == CUBLAS_STATUS_SUCCESS) status = found;
    }
    const Library & library_;
};

cublasStatus_t choose(const Library & library, cublasLtHandle_t handle, const Product & product, int64_t d_step,
                      cublasLtMatmulAlgo_t & out) {
    cublasLtMatmulPreference_t preference = nullptr;
    cublasStatus_t status = library.preference_create(&preference);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE, aligned = 16;
    uint32_t d_aligned = 16; // rows of a narrow result start anywhere
    while (d_aligned > 2 && (uint64_t(d_step) * 2) % d_aligned != 0) d_aligned /= 2;
    (void)library.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                 sizeof workspace_bytes);
    (void)library.preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes);
    (void)library.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &aligned, sizeof aligned);
    (void)library.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &aligned, sizeof aligned);
    (void)library.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &d_aligned, sizeof d_aligned);
    (void)library.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d_aligned, sizeof d_aligned);
    constexpr int wanted = 16;
    cublasLtMatmulHeuristicResult_t found[wanted];
    int count = 0;
    status = library.heuristic(handle, product.desc, product.w, product.a, product.d, product.d, preference, wanted,
                               found, &count);
    (void)library.preference_destroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    for (int i = 0; i < count; i++) {
        int32_t splits = 0;
        size_t written = 0;
        (void)library.algo_get(&found[i].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits, &written);
        if (splits > 1) continue;
        out = found[i].algo;
        return CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

} // namespace

// What a product reads and writes.
struct GemmLt::Call {
    int64_t m, n, k;
    const void * a;
    int64_t a_stride;
    const void * w;
    void * d;
    int64_t d_stride;
    const float * alpha;
    int64_t d_step;
    const void * const * scales = nullptr; // of w and of a, in FP4
};

Result<const cublasLtMatmulAlgo_t *> GemmLt::State::algorithm_for(const Call & call) {
    const Key key = {
        call.n, call.k, call.a_stride, call.d_stride, call.d_step, call.alpha != nullptr, call.scales != nullptr};
    auto found = algorithms.find(key);
    if (found == algorithms.end()) {
        const std::string shape = concat(call.m, " x ", call.k, " -> ", call.n);
        const Product reference(library, reference_rows, call.n, call.k, call.a_stride, call.d_stride,
                                call.alpha != nullptr, call.scales);
        if (reference.status != CUBLAS_STATUS_SUCCESS) return failure(reference.status, shape);
        cublasLtMatmulAlgo_t algorithm;
        const cublasStatus_t status = choose(library, handle, reference, call.d_step, algorithm);
        if (status != CUBLAS_STATUS_SUCCESS) return failure(status, "no algorithm for " + shape);
        found = algorithms.emplace(key, algorithm).first;
    }
    return const_cast<const cublasLtMatmulAlgo_t *>(&found->second);
}

Status GemmLt::State::multiply(cudaStream_t stream, const Call & call) {
    if (call.m == 0 || call.n == 0) return {};
    GNV_ASSIGN(const cublasLtMatmulAlgo_t * const algorithm, algorithm_for(call));
    const std::string shape = concat(call.m, " x ", call.k, " -> ", call.n);
    const Product product(library, call.m, call.n, call.k, call.a_stride, call.d_stride, call.alpha != nullptr,
                          call.scales);
    if (product.status != CUBLAS_STATUS_SUCCESS) return failure(product.status, shape);
    static const float one = 1, zero = 0;
    // Device pointer mode: beta is the 0 stored after alpha.
    const void * const beta = call.alpha ? static_cast<const void *>(call.alpha + 1) : &zero;
    const cublasStatus_t status =
        library.matmul(handle, product.desc, call.alpha ? call.alpha : &one, call.w, product.w, call.a, product.a, beta,
                       call.d, product.d, call.d, product.d, algorithm, workspace, workspace_bytes, stream);
    return status == CUBLAS_STATUS_SUCCESS ? Status() : failure(status, shape);
}

Status GemmLt::run(cudaStream_t stream, int64_t m, int64_t n, int64_t k, const void * a, int64_t a_stride,
                   const void * w, void * d, int64_t d_stride, const float * alpha, int64_t d_step) {
    return state_->multiply(stream, {m, n, k, a, a_stride, w, d, d_stride, alpha, d_step == 0 ? d_stride : d_step});
}

bool GemmLt::supports_fp4(int64_t n, int64_t k, int64_t d_stride, int64_t d_step) {
    if (!state_->fp4 || k % 32 != 0) return false;
    const auto [found, is_new] = state_->known.try_emplace({n, k, k, d_stride, d_step, true, true});
    if (!is_new) return found->second;
    alignas(16) static const float some[4] = {}; // never read: an algorithm is only looked up
    const void * const scales[2] = {some, some};
    const Call call = {reference_rows, n, k, nullptr, k, nullptr, nullptr, d_stride, some, d_step, scales};
    return found->second = state_->algorithm_for(call).ok();
}

Status GemmLt::run_fp4(cudaStream_t stream, int64_t m, int64_t n, int64_t k, const Fp4 & a, const Fp4 & w, void * d,
                       int64_t d_stride, const float * alpha, int64_t d_step) {
    const void * const scales[2] = {w.scales, a.scales};
    return state_->multiply(stream, {m, n, k, a.codes, k, w.codes, d, d_stride, alpha, d_step, scales});
}

} // namespace gnv::cuda
