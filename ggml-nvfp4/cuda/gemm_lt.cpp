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
    // By n, k, d_stride, d_step, alpha.
    std::map<std::tuple<int64_t, int64_t, int64_t, int64_t, bool>, cublasLtMatmulAlgo_t> algorithms;

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
    return std::unique_ptr<GemmLt>(new GemmLt(std::move(state)));
}

namespace {

// The descriptions of one product; row-major matrices are cuBLAS's column-major ones transposed: D^T = W A^T.
class Product {
  public:
    Product(const Library & library, int64_t m, int64_t n, int64_t k, int64_t a_stride, int64_t d_stride, bool alpha)
        : library_(library) {
        const cublasOperation_t transpose = CUBLAS_OP_T;
        keep(library.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
        const int32_t mode = alpha ? CUBLASLT_POINTER_MODE_DEVICE : CUBLASLT_POINTER_MODE_HOST;
        keep(library.desc_set(desc, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode));
        keep(library.layout_create(&w, CUDA_R_16BF, uint64_t(k), uint64_t(n), k));
        keep(library.layout_create(&a, CUDA_R_16BF, uint64_t(k), uint64_t(m), a_stride));
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

Status GemmLt::run(cudaStream_t stream, int64_t m, int64_t n, int64_t k, const void * a, int64_t a_stride,
                   const void * w, void * d, int64_t d_stride, const float * alpha, int64_t d_step) {
    State & state = *state_;
    if (m == 0 || n == 0) return {};
    const std::string shape = concat(m, " x ", k, " -> ", n);
    if (d_step == 0) d_step = d_stride;
    const auto key = std::make_tuple(n, k, d_stride, d_step, alpha != nullptr);
    auto found = state.algorithms.find(key);
    if (found == state.algorithms.end()) {
        const Product reference(state.library, reference_rows, n, k, a_stride, d_stride, alpha != nullptr);
        if (reference.status != CUBLAS_STATUS_SUCCESS) return state.failure(reference.status, shape);
        cublasLtMatmulAlgo_t algorithm;
        const cublasStatus_t status = choose(state.library, state.handle, reference, d_step, algorithm);
        if (status != CUBLAS_STATUS_SUCCESS) return state.failure(status, "no algorithm for " + shape);
        found = state.algorithms.emplace(key, algorithm).first;
    }
    const Product product(state.library, m, n, k, a_stride, d_stride, alpha != nullptr);
    if (product.status != CUBLAS_STATUS_SUCCESS) return state.failure(product.status, shape);
    static const float one = 1, zero = 0;
    // Device pointer mode: beta is the 0 stored after alpha.
    const void * const beta = alpha ? static_cast<const void *>(alpha + 1) : &zero;
    const cublasStatus_t status =
        state.library.matmul(state.handle, product.desc, alpha ? alpha : &one, w, product.w, a, product.a, beta, d,
                             product.d, d, product.d, &found->second, state.workspace, workspace_bytes, stream);
    return status == CUBLAS_STATUS_SUCCESS ? Status() : state.failure(status, shape);
}

} // namespace gnv::cuda
