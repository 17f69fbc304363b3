// Runs a pipeline with AWS's SDK for JavaScript. test_clients runs it.
//
// Its argument is a file with a definition. It prints its results as JSON.
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { SageMaker, paginateListPipelineExecutionSteps } from "@aws-sdk/client-sagemaker";

const client = new SageMaker();
const PipelineName = "Demo";
const { PipelineArn: created } = await client.createPipeline({
  PipelineName,
  RoleArn: "arn:aws:iam::123456789012:role/SageMakerRole",
  PipelineDefinition: await readFile(process.argv[2], "utf8"),
});

async function start(parameters) {
  const PipelineParameters = Object.entries(parameters).map(([Name, Value]) => ({ Name, Value }));
  return (await client.startPipelineExecution({ PipelineName, PipelineParameters })).PipelineExecutionArn;
}

async function statuses() {
  const response = await client.listPipelineExecutions({ PipelineName, SortOrder: "Ascending" });
  return response.PipelineExecutionSummaries.map((entry) => entry.PipelineExecutionStatus);
}

async function steps(PipelineExecutionArn) {
  const found = [];
  const request = { PipelineExecutionArn, SortOrder: "Ascending" };
  for await (const page of paginateListPipelineExecutionSteps({ client, pageSize: 1 }, request)) {
    found.push(...page.PipelineExecutionSteps);
  }
  return found;
}

const succeeded = await start({ Score: "0.9" });
const failed = await start({ Score: "0.1" });
const stopped = await start({});
await client.stopPipelineExecution({ PipelineExecutionArn: stopped });
const refused = await start({ Nonsense: "x" }).catch((error) => error.name);
while ((await statuses()).some((status) => ["Executing", "Stopping"].includes(status))) {
  await setTimeout(500);
}
const results = {
  created,
  statuses: await statuses(),
  steps: (await steps(succeeded)).map((step) => step.StepName),
  reasons: (await steps(failed)).flatMap((step) => step.FailureReason ?? []),
  refused,
};
console.log(JSON.stringify(results));
