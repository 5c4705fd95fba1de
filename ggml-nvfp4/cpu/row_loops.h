namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

constexpr RowLoops row_loops = {0};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
