namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

constexpr DeltaLoops delta_loops = {0};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
