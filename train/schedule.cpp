#include "train/schedule.h"

#include <algorithm>
#include <cmath>

namespace ristretto::train {

double scheduled_learning_rate(const agents::Hyperparameters& hyperparameters, double fraction_done) {
  fraction_done = std::min(1.0, fraction_done);  // a clock may run past its budget
  const double start = hyperparameters.learning_rate;
  if (!hyperparameters.use_lr_schedule) return start;
  const double end_share = hyperparameters.lr_schedule_factor;
  if (hyperparameters.lr_schedule_type == "exponential") return start * std::pow(end_share, fraction_done);
  return start * (1 - (1 - end_share) * fraction_done);
}

}  // namespace ristretto::train
