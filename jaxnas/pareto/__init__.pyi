from .dominance import constrained_rank as constrained_rank
from .dominance import crowding_distance as crowding_distance
from .dominance import domination_rank as domination_rank
from .dominance import non_dominated as non_dominated
from .improvement import (
    expected_hypervolume_improvement as expected_hypervolume_improvement,
)
from .improvement import hypervolume_improvement as hypervolume_improvement
from .improvement import hypervolume_scalarisation as hypervolume_scalarisation
from .indicators import attained as attained
from .indicators import attainment_surfaces as attainment_surfaces
from .indicators import igd_plus as igd_plus
from .objectives import Objective as Objective
from .objectives import as_scores as as_scores
from .objectives import as_values as as_values
from .objectives import optimised as optimised
from .objectives import score_bounds as score_bounds
from .objectives import validate_objectives as validate_objectives
from .objectives import violation as violation
from .volume import hypervolume as hypervolume
from .volume import hypervolume_so_far as hypervolume_so_far
from .volume import reference_point as reference_point
