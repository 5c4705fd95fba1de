#pragma once
// What nearly every test includes, compiled once for all test programs. A test still names what it uses: this header
// saves time, and no test may need it.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
