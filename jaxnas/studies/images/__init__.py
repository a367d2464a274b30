"""A search for the best cell on the user's own images, within a budget of minutes.

`search_images` is the program, with the settings of a `Config`. It loads a
`tasks.ImageTask`, orders the cells by scores of untrained networks (`cell_scores`) or by a
prior (`prior`), measures the costs of trainings (`training_costs`), and runs the stages
(`stages`, `final_stage`) within a `budget.TimeBudget` that outlives the process;
`log.SearchLog` prints the progress and `results.Results` writes the files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
