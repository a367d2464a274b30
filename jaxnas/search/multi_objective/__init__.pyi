from .evolution import regularized_evolution as regularized_evolution
from .gaussian_process import bayesopt as bayesopt
from .genetic import nsga2 as nsga2
from .ordering import preference as preference
from .presets import gp_pareto as gp_pareto
from .presets import gp_subnets as gp_subnets
from .sampled_search import bayesopt_sampled as bayesopt_sampled
