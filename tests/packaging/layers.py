"""The order of the packages: which modules and folders may import from which."""

from __future__ import annotations

# The order of the top of the provider, lowest layer first. A module may import from
# lower layers, and a folder is in one layer as a whole.
# docs/explanation/architecture.md says what each entry is responsible for.
LAYERS = (
    {"__init__", "exceptions", "states", "get_provider_info"},
    {"execution"},
    {"airflow_compat"},
    {"aws", "deployment", "lineage", "links", "metrics", "retrying"},
    {"records"},
    {"auth", "ui"},
    {"hooks"},
    {"events", "jobs", "triggers"},
    {"operators", "watch"},
    {"task_groups"},
    {"dags", "notifications", "sensors"},
    {"start_in_triggerer"},
    {"cli", "testing"},
)
# The order inside the folders whose modules build on each other, lowest layer first. A
# module that is not named is above those that are, and below ``__init__``.
FOLDER_LAYERS = {
    "airflow_compat": (
        {"capabilities"},
        {"listeners", "sdk", "task_instances"},
        {"supervisor"},
        {"teams"},
        {"database"},
        {"__init__"},
    ),
    "execution": (
        {"clock", "json_input", "texts"},
        {"models"},
        {"console", "prices"},
        {"events", "parameters", "waiter"},
        {"approval", "lifecycle", "search"},
        {"pipelines"},
        {"steps"},
        {"datasets", "outcome", "results"},
        {"step_tasks"},
        {"__init__"},
    ),
    "execution.lifecycle": (
        {"capacity", "options"},
        {"instructions"},
        {"decisions", "ending", "lookup"},
        {"machine", "orphans"},
        {"__init__"},
    ),
    "execution.steps": ({"descriptions"}, {"callbacks", "progress"}, {"__init__"}),
    "aws": (
        {"job_logs", "rate_limiter", "responses", "retry"},
        {"sessions"},
        {"concurrent_calls"},
        {"__init__"},
    ),
    "auth": (
        {"allow_list", "iam_policies"},
        {"sts"},
        {"connection"},
        {"base_hook"},
        {"__init__"},
    ),
    "ui": ({"app"}, {"plugin"}, {"__init__"}),
    "hooks": ({"executions"}, {"callbacks", "jobs", "stops"}, {"__init__"}),
    "events": ({"queue"}, {"trigger"}, {"__init__"}),
    "jobs": ({"catalogue"}, {"drift", "fan_out", "importer"}, {"__init__"}),
    "triggers": (
        {"activity", "schedule", "threads"},
        {"poller", "task_end"},
        {"step_pusher"},
        {"stopping"},
        {"wait_triggers"},
        {"approvals", "searches", "step_tasks"},
        {"__init__"},
    ),
    "watch": (
        {"listeners", "orphan"},
        {"callback", "plugin", "sweep"},
        {"__init__"},
    ),
    "start_in_triggerer": ({"step_tasks", "triggerer_task"}, {"__init__"}),
    "sensors": ({"base"}, {"model_approval", "pipeline"}, {"__init__"}),
    "operators": (
        {"base"},
        {"callback_run", "parameter_check", "results"},
        {"reporting"},
        {"execution_calls"},
        {"worker_stop"},
        {"try_runner"},
        {"failure_callback"},
        {"callback", "list_import", "start", "stop"},
        {"step_tasks"},
        {"__init__"},
    ),
    "testing": ({"dag_files", "emulator"}, {"plugin"}, {"__init__"}),
    "cli": (
        {"output"},
        {"check", "executions", "iam", "jobs", "prices", "records", "verify"},
        {"command_line"},
        {"__init__"},
    ),
}

# The same of the emulator's package, which is a distribution of its own.
EMULATOR_LAYERS = (
    {"arguments", "clients", "errors"},
    {"protocol", "engine"},
    {"sagemaker"},
    {"builders", "sign_in"},
    {"server", "verify"},
    {"__init__"},
    {"__main__"},
)
EMULATOR_FOLDER_LAYERS = {
    "engine": (
        {"clock", "durations"},
        {"definition"},
        {"expressions"},
        {"caching", "conditions", "parameters", "retry_policies", "scenarios"},
        {"step_runs"},
        {"execution"},
        {"__init__"},
    ),
    "sagemaker": (
        {"pagination", "validation", "store"},
        {"calls"},
        {"jobs", "pipelines", "selective_execution"},
        {"step_summaries"},
        {"status_events"},
        {"executions"},
        {"search"},
        {"api"},
        {"__init__"},
    ),
    "sagemaker.jobs": (
        {"names"},
        {"job", "logs"},
        {"processing", "training"},
        {"descriptions"},
        {"callback_messages", "model_packages", "reports"},
        {"__init__"},
    ),
    "sign_in": (
        {"issuers", "policies", "settings"},
        {"iam"},
        {"authorization", "sessions", "web_identity"},
        {"callers"},
        {"simulation", "sts"},
        {"__init__"},
    ),
    "verify": (
        {"definitions", "models"},
        {"report", "session"},
        {"calls"},
        {"cleaning"},
        {"account"},
        {"scenarios"},
        {"runner"},
        {"command"},
        {"__init__"},
    ),
    "verify.scenarios": (
        {"inbox", "jobs", "lists", "outcomes", "parameters", "permissions", "starts"},
        {"callbacks", "events", "links", "resumes", "stops"},
        {"selections"},
        {"__init__"},
    ),
    "server": (
        {"addresses", "call_log", "client", "event_bus", "faults"},
        {"browser_guard", "control", "moto_app"},
        {"router"},
        {"server"},
        {"__init__"},
    ),
}
