"""Settings that no simulation needs to look at, by the reason why."""

from __future__ import annotations

from collections.abc import Sequence

Named = tuple[tuple[str, Sequence[str]], ...]
"""Why, and the names."""
_KERNELS = "decides how long steps take: the profile has it"
_COMMUNICATION = "decides how long devices exchange: the profile has it"
_OTHER_MODELS = "concerns models of another kind"
_SERVER = "concerns the server alone"
_LOADING = "concerns the loading of the model alone"
_WATCHING = "concerns logs and metrics alone"
_ANSWERS = "concerns what is answered, not when"
_PLACES = "concerns where processes run"

PROFILED: Named = (
    (
        _KERNELS,
        """
        attention_backend attention_config compilation_config cudagraph_capture_sizes
        max_cudagraph_capture_size cuda_graph_sizes max_seq_len_to_capture kernel_config moe_backend
        linear_backend sparse_indexer_topk_backend ir_op_priority enable_flashinfer_autotune
        optimization_level disable_cascade_attn model_impl use_fp64_gumbel
        enable_batch_sharded_sampling additional_config worker_cls worker_extension_cls
        kv_cache_dtype_skip_layers calculate_kv_scales num_lookahead_slots
        enable_trace_replay logits_processors disable_async_output_proc override_attention_dtype
        multi_step_stream_outputs rope_scaling rope_theta
        """.split(),
    ),
    (
        _COMMUNICATION,
        """
        disable_custom_all_reduce distributed_executor_backend all2all_backend
        expert_placement_strategy eplb_config enable_ep_weight_filter dbo_decode_token_threshold
        dbo_prefill_token_threshold enable_hc_sp dcp_comm_backend dcp_q_replicate
        dcp_kv_cache_interleave_size cp_kv_cache_interleave_size enable_shm_tensor_arena
        worker_use_ray num_redundant_experts eplb_window_size eplb_step_interval
        eplb_log_balancedness
        """.split(),
    ),
    ("decides in what portions a client receives tokens", ["stream_interval"]),
)

IGNORED: Named = (
    ("is the model, compared with --model", ["model", "model_tag", "served_model_name"]),
    (
        _SERVER,
        """
        config host port uds grpc grpc_port root_path headless api_server_count
        shutdown_timeout api_key ssl_keyfile ssl_certfile ssl_ca_certs enable_ssl_refresh
        ssl_cert_reqs ssl_ciphers allow_credentials allowed_origins allowed_methods allowed_headers
        middleware h11_max_incomplete_event_size h11_max_header_count
        enable_offline_docs disable_fastapi_docs enable_request_id_headers sse_keep_alive_interval
        enable_server_load_tracking enable_tokenizer_info_endpoint disable_frontend_multiprocessing
        fail_on_environ_validation enable_scale_out tokens_only fingerprint_mode fingerprint_value
        io_processor_plugin renderer_num_workers tool_server enable_flash_late_interaction
        enable_fault_tolerance fault_tolerance_config engine_use_ray
        enable_sleep_mode sleep_mode_offload_cudagraph sleep_preserve_parameter_names
        enable_cumem_allocator enable_nccl_comm_suspend help seed random_seed
        tokenizer_pool_size tokenizer_pool_type tokenizer_pool_extra_config
        """.split(),
    ),
    (
        _LOADING,
        """
        tokenizer tokenizer_mode tokenizer_revision trust_remote_code revision code_revision
        hf_config_path hf_token config_format load_format download_dir safetensors_load_strategy
        safetensors_prefetch_num_threads safetensors_prefetch_block_size model_loader_extra_config
        load_config ignore_patterns use_tqdm_on_load pt_load_map_location
        max_parallel_loading_workers skip_tokenizer_init allow_deprecated_quantization
        weight_transfer_config
        """.split(),
    ),
    (
        _WATCHING,
        """
        disable_log_stats disable_log_requests enable_log_requests enable_log_outputs
        enable_log_deltas aggregate_engine_logging max_log_len uvicorn_log_level
        disable_uvicorn_access_log disable_access_log_for_endpoints log_error_stack logging_config
        log_level log_config_file show_hidden_metrics_for_version otlp_traces_endpoint
        collect_detailed_traces per_request_spec_decode_metrics kv_cache_metrics
        kv_cache_metrics_sample custom_histogram_buckets cudagraph_metrics
        enable_layerwise_nvtx_tracing enable_mfu_metrics enable_logging_iteration_details
        jit_monitor_mode jit_monitor_verbose observability_config enable_prompt_tokens_details
        enable_per_request_metrics enable_force_include_usage profiler_config kv_events_config
        ray_workers_use_nsight enable_return_routed_experts aux_output_config
        """.split(),
    ),
    (
        _ANSWERS,
        """
        chat_template chat_template_content_format trust_request_chat_template
        trust_request_mm_kwargs default_chat_template_kwargs response_role
        return_tokens_as_token_ids enable_auto_tool_choice exclude_tools_when_tool_choice_none
        tool_call_parser tool_parser_plugin tool_strict_level enable_prompt_embeds generation_config
        override_generation_config max_logprobs logprobs_mode return_sampling_mask
        reasoning_parser reasoning_parser_plugin reasoning_config structured_outputs_config
        guided_decoding_backend guided_decoding_disable_fallback
        guided_decoding_disable_any_whitespace guided_decoding_disable_additional_properties
        enable_reasoning logits_processor_pattern expand_tools_even_if_tool_choice_none
        cohere_is_reasoning_model cohere_format
        anthropic_disabled_thinking_effort watermark_config
        """.split(),
    ),
    (
        _PLACES,
        """
        master_addr master_port node_rank distributed_timeout_seconds
        cpu_distributed_timeout_seconds numa_bind numa_bind_nodes numa_bind_cpus device_ids device
        device_config data_parallel_rank data_parallel_start_rank data_parallel_size_local
        data_parallel_address data_parallel_rpc_port data_parallel_backend data_parallel_hybrid_lb
        data_parallel_external_lb data_parallel_multi_port_external_lb dp_sync_interval
        data_parallel_supervisor_port dp_supervisor_probe_interval_s dp_supervisor_probe_timeout_s
        dp_supervisor_probe_failure_threshold disable_nccl_for_dp_synchronization
        swap_space num_cpu_blocks offload_backend offload_num_in_group offload_prefetch_step
        offload_params cpu_offload_params kv_offloading_backend
        """.split(),
    ),
    (
        _OTHER_MODELS,
        """
        mamba_backend mamba_ssu_algorithm enable_mamba_cache_stochastic_rounding
        mamba_cache_philox_rounds mamba_cache_dtype mamba_ssm_cache_dtype mamba_block_size
        mamba_cache_mode enable_mamba_shared_prefix_checkpoint replayssm_buffer_len use_replayssm
        gdn_prefill_backend kda_prefill_backend kda_decode_backend language_model_only
        limit_mm_per_prompt enable_mm_embeds media_io_kwargs mm_processor_kwargs
        mm_processor_cache_gb mm_processor_cache_type mm_hasher_algorithm
        mm_shm_cache_max_object_size_mb mm_encoder_only mm_encoder_tp_mode mm_encoder_attn_backend
        mm_encoder_attn_dtype mm_encoder_fp8_scale_path mm_encoder_fp8_scale_save_path
        mm_encoder_fp8_scale_save_margin interleave_mm_strings skip_mm_profiling video_pruning_rate
        video_pruning_method mm_tensor_ipc mm_processor_device mm_ipc_gpu_memory_gb
        mm_device_do_normalize disable_chunked_mm_input allowed_local_media_path
        allowed_media_domains max_loras max_lora_rank lora_dtype enable_tower_connector_lora
        max_cpu_loras fully_sharded_loras lora_target_modules default_mm_loras
        specialize_active_lora enable_mixed_moe_lora_format enable_moe_shared_loras
        max_lora_cls_labels elastic_ep_max_dp_size ec_manager_config engram_config
        swa_bounded_replay disable_hybrid_kv_cache_manager
        prefix_caching_hash_algo use_v2_block_manager disable_mm_preprocessor_cache
        enable_multimodal_encoder_data_parallel lora_extra_vocab_size long_lora_scaling_factors
        enable_lora_bias max_prompt_adapters max_prompt_adapter_token qlora_adapter_name_or_path
        """.split(),
    ),
)

FLAGS = {
    "h": "help",
    "asc": "api_server_count",
    "r": "node_rank",
    "dpn": "data_parallel_rank",
    "dpr": "data_parallel_start_rank",
    "dpl": "data_parallel_size_local",
    "dpa": "data_parallel_address",
    "dpp": "data_parallel_rpc_port",
    "dpb": "data_parallel_backend",
    "dph": "data_parallel_hybrid_lb",
    "dpe": "data_parallel_external_lb",
    "dpm": "data_parallel_multi_port_external_lb",
    "cc": "compilation_config",
    "O": "optimization_level",
    "ac": "attention_config",
}
"""Short options of the settings above."""
