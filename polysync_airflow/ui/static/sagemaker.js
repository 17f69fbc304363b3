// What Airflow's UI imports for the page in the navigation and for the tab of a task instance. It renders the function
// that this module leaves among the globals under their name, with the parameters of the page's route:
// https://airflow.apache.org/docs/apache-airflow/stable/howto/custom-view-plugin.html
import { h } from "./components.js";
import { ExecutionsPage } from "./executions_page.js";
import { SageMakerTab } from "./sagemaker_tab.js";
import { STYLES } from "./styles.js";

const TITLE = "SageMaker";

function SageMaker(route) {
  const view = route.taskId === undefined ? h(ExecutionsPage) : h(SageMakerTab, route);
  return h("div", { className: "psm", onKeyDown }, h("style", null, STYLES), view);
}

// A handler of Airflow's page cancels the space bar, which would press no button and scroll no log.
function onKeyDown(event) {
  if (event.key === " ") {
    event.stopPropagation();
  }
}

// Airflow 3.2 and 3.3 look for the title first, then for the name AirflowPlugin, which all plugins share.
globalThis[TITLE] = SageMaker;
globalThis.AirflowPlugin = SageMaker;
