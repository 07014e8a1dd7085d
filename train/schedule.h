// Learning-rate schedules over a run (lr_schedule_type, lr_schedule_factor).
#pragma once

#include "agents/hyperparameters.h"

namespace ristretto::train {

// fraction_done in [0, 1] of the run, by steps or by time, whichever is further.
double scheduled_learning_rate(const agents::Hyperparameters& hyperparameters, double fraction_done);

}  // namespace ristretto::train
