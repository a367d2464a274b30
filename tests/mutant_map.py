"""Test files of each module whose mutants `tests/mutants.py` draws."""

SEARCH = ("test_search", "test_loop", "test_golden")
COMPARISON = ("test_report", "test_tw_sequential", "test_tw_batch")
FIDELITY = ("test_hyperband", "test_samplers", "test_golden")
CURVES = ("test_curve_aware", "test_golden")
OBJECTIVES = ("test_multi_objective", "test_pareto", "test_golden")
SAMPLED = ("test_multi_sampled",)
# Clusters and hundreds of evaluations through kills are left to tests of their own.
DRIVE = (
    "test_drive", "test_drive_files", "test_drive_objectives", "test_drive_contract",
    "test_drive_workers",
)  # fmt: skip

# Of the modules of these packages, each must be in `TESTS`.
COMPLETE = ("jaxnas/search", "jaxnas/studies/comparison")
TESTS = {
    "jaxnas/search/base.py": SEARCH,
    "jaxnas/search/common.py": SEARCH,
    "jaxnas/search/evolution.py": (*SEARCH, "test_hyperband"),
    "jaxnas/search/kernel_presets.py": ("test_kernel_presets", "test_golden"),
    "jaxnas/search/local_search.py": (
        "test_local_search", "test_golden", "test_report",
    ),
    "jaxnas/search/loop.py": ("test_loop", "test_hyperband", "test_search"),
    "jaxnas/search/neural_predictor.py": ("test_bananas", "test_golden", "test_loop"),
    "jaxnas/search/neural_queue.py": ("test_bananas", "test_golden", "test_loop"),
    "jaxnas/search/ordered.py": ("test_in_order",),
    "jaxnas/search/presets.py": (
        "test_golden", "test_bayesopt", "test_two_levels", "test_prior_mean",
    ),
    "jaxnas/search/random.py": SEARCH,
    "jaxnas/search/steps.py": ("test_loop", "test_hyperband", "test_search"),
    "jaxnas/search/gp/pool_search.py": ("test_bayesopt", "test_golden", "test_loop"),
    "jaxnas/search/gp/proposals.py": ("test_sampled",),
    "jaxnas/search/gp/sampled_gp.py": ("test_sampled",),
    "jaxnas/search/gp/sampled_search.py": ("test_sampled",),
    "jaxnas/search/gp/schedule.py": ("test_bayesopt", "test_sampled", "test_loop"),
    "jaxnas/search/gp/selectors.py": ("test_selectors", "test_golden"),
    "jaxnas/search/gp/shortlists.py": ("test_selectors", "test_golden", "test_sampled"),
    "jaxnas/search/drive/batch_objective.py": DRIVE[:3],
    "jaxnas/search/drive/checks.py": DRIVE,
    "jaxnas/search/drive/clusters.py": ("test_drive_workers", "test_drive_clusters"),
    "jaxnas/search/drive/dispatch.py": DRIVE,
    "jaxnas/search/drive/driver.py": DRIVE,
    "jaxnas/search/drive/executors.py": DRIVE,
    "jaxnas/search/drive/history.py": DRIVE,
    "jaxnas/search/drive/journal.py": DRIVE,
    "jaxnas/search/drive/objective_scores.py": DRIVE,
    "jaxnas/search/drive/record.py": DRIVE,
    "jaxnas/search/drive/reports.py": DRIVE,
    "jaxnas/search/drive/returned.py": DRIVE,
    "jaxnas/search/drive/scale.py": DRIVE,
    "jaxnas/search/drive/search_state.py": DRIVE,
    "jaxnas/search/drive/workers.py": DRIVE,
    "jaxnas/search/fidelity/asynchronous.py": (
        "test_asynchronous_halving", "test_golden",
    ),
    "jaxnas/search/fidelity/brackets.py": (*FIDELITY, "test_dehb"),
    "jaxnas/search/fidelity/curve_aware.py": (*CURVES, "test_curve_search"),
    "jaxnas/search/fidelity/curve_gates.py": CURVES,
    "jaxnas/search/fidelity/curve_queries.py": CURVES,
    "jaxnas/search/fidelity/curve_state.py": CURVES,
    "jaxnas/search/fidelity/dehb.py": ("test_dehb", "test_golden"),
    "jaxnas/search/fidelity/freeze_thaw.py": ("test_freeze_thaw", "test_golden"),
    "jaxnas/search/fidelity/hyperband.py": FIDELITY,
    "jaxnas/search/fidelity/kde.py": (*FIDELITY, "test_asynchronous_halving"),
    "jaxnas/search/fidelity/priorband.py": FIDELITY,
    "jaxnas/search/fidelity/samplers.py": FIDELITY,
    "jaxnas/search/fidelity/rhythm.py": ("test_two_levels",),
    "jaxnas/search/fidelity/two_levels.py": ("test_two_levels", "test_freeze_thaw"),
    "jaxnas/search/multi_objective/acquire.py": OBJECTIVES,
    "jaxnas/search/multi_objective/batches.py": (*OBJECTIVES, *SAMPLED),
    "jaxnas/search/multi_objective/evolution.py": OBJECTIVES,
    "jaxnas/search/multi_objective/gaussian_process.py": OBJECTIVES,
    "jaxnas/search/multi_objective/genetic.py": OBJECTIVES,
    "jaxnas/search/multi_objective/ordering.py": OBJECTIVES,
    "jaxnas/search/multi_objective/posteriors.py": (*OBJECTIVES, *SAMPLED),
    "jaxnas/search/multi_objective/presets.py": (*OBJECTIVES, *SAMPLED),
    "jaxnas/search/multi_objective/sampled_gp.py": SAMPLED,
    "jaxnas/search/multi_objective/sampled_search.py": SAMPLED,
    "jaxnas/predictors/ensemble.py": ("test_bananas", "test_golden"),
    "jaxnas/predictors/few_labels.py": ("test_few_labels",),
    "jaxnas/predictors/pool.py": ("test_bayesopt", "test_golden", "test_selectors"),
    "jaxnas/predictors/pool_gp.py": ("test_bayesopt", "test_selectors", "test_loop"),
    "jaxnas/benchmarks/tabular.py": (
        "test_benchmarks", "test_table_curves", "test_evaluators",
    ),
    "jaxnas/studies/comparison/fidelity_methods.py": (
        "test_curve_search", "test_golden", "test_report",
    ),
    "jaxnas/studies/comparison/methods.py": (*COMPARISON, "test_golden"),
    "jaxnas/studies/comparison/opened.py": (*COMPARISON, "test_curve_search"),
    "jaxnas/studies/comparison/outcome.py": COMPARISON,
    "jaxnas/studies/comparison/prior_scores.py": (
        "test_prior_mean", "test_tw_sequential",
    ),
    "jaxnas/studies/comparison/lengths.py": ("test_report",),
    "jaxnas/studies/comparison/runs.py": (*COMPARISON, "test_golden"),
    "jaxnas/studies/comparison/settings.py": COMPARISON,
    "jaxnas/studies/comparison/summary.py": COMPARISON,
    "experiments/zero_cost/reference_search.py": ("test_score_search", "test_report"),
}  # fmt: skip
