#include "model/model_def.h"

namespace gnv {

static const RoleTraits traits_table[] = {
    {"embedding", false, false},
    {"lm_head", true, false},
    {"final norm", false, false},
    {"input norm", false, false},
    {"post-attention norm", false, false},
    {"attention q", true, true},
    {"attention k", true, true},
    {"attention v", true, true},
    {"attention o", true, true},
    {"attention q norm", false, false},
    {"attention k norm", false, false},
    {"linear attention qkv", true, true},
    {"linear attention z", true, true},
    {"linear attention a", true, false},
    {"linear attention b", true, false},
    {"linear attention convolution", false, false},
    {"linear attention A_log", false, false},
    {"linear attention dt_bias", false, false},
    {"linear attention norm", false, false},
    {"linear attention out", true, true},
    {"router", true, false},
    {"shared expert gate", true, false},
    {"experts gate_up", true, true},
    {"experts down", true, true},
    {"expert gate", true, true},
    {"expert up", true, true},
    {"expert down", true, true},
    {"shared expert gate_proj", true, true},
    {"shared expert up", true, true},
    {"shared expert down", true, true},
    {"mlp gate", true, true},
    {"mlp up", true, true},
    {"mlp down", true, true},
    {"vision", false, false},
    {"vision linear", true, false},
    {"draft head fc", true, false},
    {"draft head norm", false, false},
    {"extra", false, false},
};
static_assert(sizeof traits_table / sizeof *traits_table == size_t(Role::count_));

const RoleTraits & role_traits(Role role) { return traits_table[size_t(role)]; }

} // namespace gnv
