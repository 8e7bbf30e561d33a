"""Says which settings are meant by the words of other libraries: PEFT, TRL, transformers, Flower and others."""

__all__ = ["SYNONYMS"]

_WORDS = {
    "data": "dataset dataset_name train_file train_dataset",
    "task": "task_type",
    "text_columns": "text_column dataset_text_field",
    "label_column": "label_field label",
    "prompt_template": "chat_template",
    "max_length": "max_seq_length max_seq_len max_len cutoff_len",
    "model": "model_name model_name_or_path base_model pretrained_model_name_or_path",
    "lora": "peft_config lora_config lora_r lora_alpha lora_dropout target_modules r rank",
    "tokenizer": "tokenizer_name processing_class",
    "dtype": "torch_dtype bf16 fp16 precision",
    "clients": "num_clients n_clients nodes workers",
    "topology": "graph network",
    "weights": "mixing_weights",
    "method": "algorithm strategy",
    "seed": "random_seed random_state data_seed",
    "rounds": "num_rounds n_rounds communication_rounds epochs num_train_epochs",
    "local_steps": "max_steps steps",
    "local_epochs": "epochs num_train_epochs num_epochs num_local_epochs",
    "batch_size": "per_device_train_batch_size train_batch_size bs",
    "learning_rate": "lr",
    "optimizer": "optim optimizer_name",
    "schedule": "lr_scheduler_type lr_schedule scheduler",
    "warmup": "warmup_ratio warmup_steps",
    "clip_norm": "max_grad_norm gradient_clip_val clip_grad_norm",
    "activation_checkpointing": "gradient_checkpointing",
    "compile": "torch_compile",
    "codec": "compression compressor quantizer",
    "mixer": "aggregator aggregation",
    "gamma": "consensus_step_size",
    "attackers": "byzantine malicious",
    "eval_data": "eval_dataset validation_file validation_data test_data",
    "eval_every": "eval_steps evaluation_strategy eval_strategy",
    "metric": "metric_for_best_model metrics",
    "max_new_tokens": "generation_max_length",
    "out": "output_dir save_dir logging_dir",
    "overwrite": "overwrite_output_dir force",
    "checkpoint_every": "save_steps save_strategy save_every",
    "callbacks": "callback trainer_callback",
    "report_to": "log_with logger loggers tracker trackers",
    "progress": "disable_tqdm verbose",
}
"""By setting, what others call it."""

SYNONYMS = {
    word: tuple(name for name, words in _WORDS.items() if word in words.split())
    for word in " ".join(_WORDS.values()).split()
}
"""By word, the settings that it may mean: `epochs` are those of a client in a round, or there are rounds instead."""
