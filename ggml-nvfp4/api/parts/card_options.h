// The options of a model card, for the functions that write one.
#pragma once

#include "api/handles.h"
#include "hub/card/model_card.h"

namespace gnv::api {

Status take_card_options(const gnv_card_options * given, CardOptions & card);

} // namespace gnv::api
