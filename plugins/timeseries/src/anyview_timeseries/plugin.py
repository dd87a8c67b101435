"""Time series: what this plugin brings; nothing is imported until it is used."""

from __future__ import annotations

from anyview.plugins import hookimpl

api = 1
install = "anyview[timeseries]"


@hookimpl
def recipes() -> dict[str, str]:
    """Pairs of augmented windows, and methods, one file each; most have a slot for an objective."""
    names = ("pair", "frame_projections", "ts2vec", "ts_tcc", "tf_c", "myow")
    return {name: f"anyview_timeseries.recipes.{name}:{name}" for name in names}


@hookimpl
def objectives() -> dict[str, str]:
    """Objectives that were published for time series."""
    return {
        "frame_contrast": "anyview_timeseries.objectives:FrameContrast",
        "hierarchical_contrast": "anyview_timeseries.hierarchical_contrast:HierarchicalContrast",
        "temporal_contrast": "anyview_timeseries.temporal_contrast:TemporalContrast",
        "time_frequency_consistency": "anyview_timeseries.time_frequency:TimeFrequencyConsistency",
    }


@hookimpl
def encoders() -> dict[str, str]:
    """Networks that read windows (B, C, T)."""
    return {
        "resnet1d": "anyview_timeseries.encoders:ResNet1d",
        "patch_transformer": "anyview_timeseries.encoders:PatchTransformer",
        "convnet1d": "anyview_timeseries.convolution:ConvNet1d",
        "dilated_convolution": "anyview_timeseries.dilated_convolution:DilatedConvolution",
    }


@hookimpl
def views() -> dict[str, str]:
    """Coefficients in frames, and augmented windows."""
    return {
        "pair": "anyview_timeseries.views:AugmentedPair",
        "frames": "anyview_timeseries.views:Frames",
        "overlapping_crops": "anyview_timeseries.overlapping_crops:OverlappingCrops",
        "weak_strong": "anyview_timeseries.weak_strong:WeakStrongPair",
        "time_frequency": "anyview_timeseries.time_frequency:TimeFrequencyViews",
        "neural": "anyview_timeseries.neural_views:NeuralViews",
    }


@hookimpl
def datasets() -> dict[str, str]:
    """Time series by name; a path to the user's own works everywhere as well."""
    archive = {
        "ArrowHead": "arrow_head",
        "BasicMotions": "basic_motions",
        "Coffee": "coffee",
        "ECG200": "ecg200",
        "FaceFour": "face_four",
        "GunPoint": "gun_point",
        "ItalyPowerDemand": "italy_power_demand",
        "Lightning7": "lightning7",
        "Plane": "plane",
    }
    at_hand = ("chirps", "ieee_spc12", "uci_har_subset", "watch_exercises", "monkey_reach_chewie1")
    brought = ("ieee_spc22", "dalia", "hhar", "usc_had", "uci_har", "clemson", "cpsc2018", "chapman", "sleep_edf")
    names = {**{name: name for name in (*at_hand, *brought)}, **archive}
    return {name: f"anyview_timeseries.datasets_named:{function}" for name, function in names.items()}


@hookimpl
def evaluations() -> dict[str, str]:
    """Protocols that predict a number, and those of classes that series were published with."""
    return {
        "heart_rate": "anyview_timeseries.evaluations:heart_rate",
        "step_count": "anyview_timeseries.evaluations:step_count",
        "rbf_svm": "anyview_timeseries.evaluations_classes:rbf_svm",
        "reach_angle": "anyview_timeseries.evaluations_classes:reach_angle",
    }
