//! The kinds of objects that name images, and where: one table.
//!
//! A path is written as in `--image-path`, without the kind. The paths of custom resources are those
//! of their published CRDs.

/// What a path refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Something with the `metadata` and the `spec` of a Pod.
    Template,
    /// The `spec` of a Pod, or a part of one with the same lists.
    Pod,
    /// Something with an `image`, as a container has it.
    Container,
    /// The text of an image.
    Image,
    /// An image in several fields, such as `repository` and `tag`.
    Split,
    /// A whole object, which has its own kind.
    Object,
    /// Values of a Helm chart.
    Values,
    /// An entry of kustomize's `images`.
    Kustomize,
    /// The same as a text: `NAME=IMAGE`.
    KustomizeText,
    /// A part of an object with these places.
    Parts(Places),
    /// One of the others, by its content: for paths that users give.
    Any,
}

use Shape::{
    Container, Image, Kustomize, KustomizeText, Object, Parts, Pod, Split, Template, Values,
};

/// Shapes, and the paths to them.
pub(super) type Places = &'static [(Shape, &'static str)];

/// API groups, kind, and the places of its images.
pub(super) type Kind = (&'static [&'static str], &'static str, Places);

/// `extensions` was removed from the API, but people's files still have it.
const APPS: &[&str] = &["apps", "extensions"];
const CORE: &[&str] = &[""];
const ARGO: &[&str] = &["argoproj.io"];
const TEKTON: &[&str] = &["tekton.dev"];
const KNATIVE: &[&str] = &["serving.knative.dev"];
const STRIMZI: &[&str] = &["kafka.strimzi.io"];
const MONITORING: &[&str] = &["monitoring.coreos.com"];
const KUBEVIRT: &[&str] = &["kubevirt.io"];
const SPARK: &[&str] = &["sparkoperator.k8s.io"];
const KUBEFLOW: &[&str] = &["kubeflow.org"];
const RAY: &[&str] = &["ray.io"];
const KRUISE: &[&str] = &["apps.kruise.io"];
const AGONES: &[&str] = &["agones.dev"];
const CNPG: &[&str] = &["postgresql.cnpg.io"];
const VICTORIA: &[&str] = &["operator.victoriametrics.com"];
const OTEL: &[&str] = &["opentelemetry.io"];

const SPEC_TEMPLATE: Places = &[(Template, "spec.template")];
/// A Pod's lists beside an image, all in `spec`.
const SPEC_POD_AND_IMAGE: Places = &[(Pod, "spec"), (Image, "spec.image")];
const WORKFLOW_TEMPLATE: Places = &[
    (Container, "container"),
    (Container, "script"),
    (Container, "initContainers.*"),
    (Container, "sidecars.*"),
    (Container, "containerSet.containers.*"),
];
const WORKFLOW_SPEC: Places = &[
    (Pod, ""),
    (Parts(WORKFLOW_TEMPLATE), "templateDefaults"),
    (Parts(WORKFLOW_TEMPLATE), "templates.*"),
];
const WORKFLOW: Places = &[(Parts(WORKFLOW_SPEC), "spec")];
const ANALYSIS: Places = &[(Template, "spec.metrics.*.provider.job.spec.template")];
const TASK_SPEC: Places = &[
    (Container, "steps.*"),
    (Container, "sidecars.*"),
    (Container, "stepTemplate"),
];
const TASK: Places = &[(Parts(TASK_SPEC), "spec")];
const PIPELINE_SPEC: Places = &[
    (Parts(TASK_SPEC), "tasks.*.taskSpec"),
    (Parts(TASK_SPEC), "finally.*.taskSpec"),
];
const IMAGE_CATALOG: Places = &[
    (Image, "spec.images.*.image"),
    (Image, "spec.images.*.extensions.*.image.reference"),
    (Image, "spec.componentImages.*.image"),
];
const VICTORIA_ONE: Places = &[(Pod, "spec"), (Split, "spec.image")];
const VICTORIA_PART: Places = &[(Pod, ""), (Split, "image"), (Split, "vmBackup.image")];
const RAY_CLUSTER_SPEC: Places = &[
    (Template, "headGroupSpec.template"),
    (Template, "workerGroupSpecs.*.template"),
];
const MACHINE_SPEC: Places = &[
    (Image, "volumes.*.containerDisk.image"),
    (Image, "domain.firmware.kernelBoot.container.image"),
];
const MACHINE_TEMPLATE: Places = &[(Parts(MACHINE_SPEC), "spec.template.spec")];
const SPARK_SPEC: Places = &[
    (Pod, ""),
    (Image, "image"),
    (Image, "driver.image"),
    (Container, "driver.initContainers.*"),
    (Container, "driver.sidecars.*"),
    (Image, "executor.image"),
    (Container, "executor.initContainers.*"),
    (Container, "executor.sidecars.*"),
];
const ELASTIC: Places = &[(Image, "spec.image"), (Template, "spec.podTemplate")];
const ELASTIC_AGENT: Places = &[
    (Image, "spec.image"),
    (Template, "spec.daemonSet.podTemplate"),
    (Template, "spec.deployment.podTemplate"),
];
const RACK_AWARE: Places = &[(Image, "spec.image"), (Image, "spec.clientRackInitImage")];

/// Every known kind.
pub(super) const KINDS: &[Kind] = &[
    (CORE, "Pod", &[(Template, "")]),
    (CORE, "PodTemplate", &[(Template, "template")]),
    (CORE, "ReplicationController", SPEC_TEMPLATE),
    (APPS, "Deployment", SPEC_TEMPLATE),
    (APPS, "StatefulSet", SPEC_TEMPLATE),
    (APPS, "DaemonSet", SPEC_TEMPLATE),
    (APPS, "ReplicaSet", SPEC_TEMPLATE),
    (&["batch"], "Job", SPEC_TEMPLATE),
    (
        &["batch"],
        "CronJob",
        &[(Template, "spec.jobTemplate.spec.template")],
    ),
    // OpenShift
    (
        &["apps.openshift.io"],
        "DeploymentConfig",
        &[
            (Template, "spec.template"),
            (Container, "spec.strategy.customParams"),
        ],
    ),
    (
        &["template.openshift.io"],
        "Template",
        &[(Object, "objects.*")],
    ),
    // Argo
    (ARGO, "Rollout", SPEC_TEMPLATE),
    (
        ARGO,
        "Experiment",
        &[(Template, "spec.templates.*.template")],
    ),
    (ARGO, "AnalysisTemplate", ANALYSIS),
    (ARGO, "ClusterAnalysisTemplate", ANALYSIS),
    (ARGO, "AnalysisRun", ANALYSIS),
    (ARGO, "Workflow", WORKFLOW),
    (ARGO, "WorkflowTemplate", WORKFLOW),
    (ARGO, "ClusterWorkflowTemplate", WORKFLOW),
    (
        ARGO,
        "CronWorkflow",
        &[(Parts(WORKFLOW_SPEC), "spec.workflowSpec")],
    ),
    (
        ARGO,
        "Application",
        &[
            (KustomizeText, "spec.source.kustomize.images.*"),
            (KustomizeText, "spec.sources.*.kustomize.images.*"),
            (Values, "spec.source.helm.valuesObject"),
            (Values, "spec.sources.*.helm.valuesObject"),
        ],
    ),
    // Flux
    (
        &["kustomize.toolkit.fluxcd.io"],
        "Kustomization",
        &[(Kustomize, "spec.images.*")],
    ),
    (
        &["helm.toolkit.fluxcd.io"],
        "HelmRelease",
        &[(Values, "spec.values")],
    ),
    // Tekton
    (TEKTON, "Task", TASK),
    (TEKTON, "ClusterTask", TASK),
    (TEKTON, "StepAction", &[(Container, "spec")]),
    (TEKTON, "TaskRun", &[(Parts(TASK_SPEC), "spec.taskSpec")]),
    (TEKTON, "Pipeline", &[(Parts(PIPELINE_SPEC), "spec")]),
    (
        TEKTON,
        "PipelineRun",
        &[(Parts(PIPELINE_SPEC), "spec.pipelineSpec")],
    ),
    // Knative
    (KNATIVE, "Service", SPEC_TEMPLATE),
    (KNATIVE, "Configuration", SPEC_TEMPLATE),
    (KNATIVE, "Revision", &[(Pod, "spec")]),
    // Strimzi
    (
        STRIMZI,
        "Kafka",
        &[
            (Image, "spec.kafka.image"),
            (Image, "spec.kafka.brokerRackInitImage"),
            (Image, "spec.zookeeper.image"),
            (Image, "spec.entityOperator.topicOperator.image"),
            (Image, "spec.entityOperator.userOperator.image"),
            (Image, "spec.entityOperator.tlsSidecar.image"),
            (Image, "spec.cruiseControl.image"),
            (Image, "spec.cruiseControl.tlsSidecar.image"),
            (Image, "spec.kafkaExporter.image"),
            (Image, "spec.jmxTrans.image"),
        ],
    ),
    (
        STRIMZI,
        "KafkaConnect",
        &[
            (Image, "spec.image"),
            (Image, "spec.clientRackInitImage"),
            (Image, "spec.build.output.image"),
        ],
    ),
    (STRIMZI, "KafkaMirrorMaker", &[(Image, "spec.image")]),
    (STRIMZI, "KafkaMirrorMaker2", RACK_AWARE),
    (STRIMZI, "KafkaBridge", RACK_AWARE),
    // The operators of Prometheus and VictoriaMetrics
    (
        MONITORING,
        "Prometheus",
        &[
            (Pod, "spec"),
            (Image, "spec.image"),
            (Image, "spec.thanos.image"),
        ],
    ),
    (MONITORING, "PrometheusAgent", SPEC_POD_AND_IMAGE),
    (MONITORING, "Alertmanager", SPEC_POD_AND_IMAGE),
    (MONITORING, "ThanosRuler", SPEC_POD_AND_IMAGE),
    (VICTORIA, "VMAgent", VICTORIA_ONE),
    (VICTORIA, "VMAlert", VICTORIA_ONE),
    (VICTORIA, "VMAlertmanager", VICTORIA_ONE),
    (VICTORIA, "VMAuth", VICTORIA_ONE),
    (VICTORIA, "VMSingle", VICTORIA_ONE),
    (
        VICTORIA,
        "VMCluster",
        &[
            (Parts(VICTORIA_PART), "spec.vminsert"),
            (Parts(VICTORIA_PART), "spec.vmselect"),
            (Parts(VICTORIA_PART), "spec.vmstorage"),
        ],
    ),
    (
        OTEL,
        "OpenTelemetryCollector",
        &[
            (Pod, "spec"),
            (Image, "spec.image"),
            (Container, "spec.additionalContainers.*"),
            (Image, "spec.targetAllocator.image"),
        ],
    ),
    (
        OTEL,
        "Instrumentation",
        &[
            (Image, "spec.apacheHttpd.image"),
            (Image, "spec.dotnet.image"),
            (Image, "spec.go.image"),
            (Image, "spec.java.image"),
            (Image, "spec.java.extensions.*.image"),
            (Image, "spec.nginx.image"),
            (Image, "spec.nodejs.image"),
            (Image, "spec.python.image"),
        ],
    ),
    (
        &["grafana.integreatly.org"],
        "Grafana",
        &[(Template, "spec.deployment.spec.template")],
    ),
    // Databases and search
    (
        CNPG,
        "Cluster",
        &[
            (Image, "spec.imageName"),
            (Image, "spec.postgresql.extensions.*.image.reference"),
        ],
    ),
    (CNPG, "Pooler", SPEC_TEMPLATE),
    (CNPG, "ImageCatalog", IMAGE_CATALOG),
    (CNPG, "ClusterImageCatalog", IMAGE_CATALOG),
    (
        &["acid.zalan.do"],
        "postgresql",
        &[
            (Image, "spec.dockerImage"),
            (Image, "spec.connectionPooler.dockerImage"),
            (Container, "spec.sidecars.*"),
            (Container, "spec.initContainers.*"),
            (Container, "spec.init_containers.*"),
        ],
    ),
    (
        &["postgres-operator.crunchydata.com"],
        "PostgresCluster",
        &[
            (Image, "spec.image"),
            (Image, "spec.backups.pgbackrest.image"),
            (Image, "spec.instrumentation.image"),
            (Image, "spec.monitoring.pgmonitor.exporter.image"),
            (Image, "spec.proxy.pgBouncer.image"),
            (Image, "spec.userInterface.pgAdmin.image"),
            (Container, "spec.instances.*.containers.*"),
            (Container, "spec.proxy.pgBouncer.containers.*"),
        ],
    ),
    (
        &["elasticsearch.k8s.elastic.co"],
        "Elasticsearch",
        &[
            (Image, "spec.image"),
            (Template, "spec.nodeSets.*.podTemplate"),
        ],
    ),
    (&["kibana.k8s.elastic.co"], "Kibana", ELASTIC),
    (&["logstash.k8s.elastic.co"], "Logstash", ELASTIC),
    (&["agent.k8s.elastic.co"], "Agent", ELASTIC_AGENT),
    (&["beat.k8s.elastic.co"], "Beat", ELASTIC_AGENT),
    (
        &["minio.min.io"],
        "Tenant",
        &[
            (Image, "spec.image"),
            (Image, "spec.kes.image"),
            (Pod, "spec.sideCars"),
            (Container, "spec.initContainers.*"),
        ],
    ),
    (
        &["ceph.rook.io"],
        "CephCluster",
        &[(Image, "spec.cephVersion.image")],
    ),
    // KubeVirt
    (KUBEVIRT, "VirtualMachine", MACHINE_TEMPLATE),
    (
        KUBEVIRT,
        "VirtualMachineInstanceReplicaSet",
        MACHINE_TEMPLATE,
    ),
    (
        KUBEVIRT,
        "VirtualMachineInstance",
        &[(Parts(MACHINE_SPEC), "spec")],
    ),
    (
        &["pool.kubevirt.io"],
        "VirtualMachinePool",
        &[(Parts(MACHINE_TEMPLATE), "spec.virtualMachineTemplate")],
    ),
    // Data and machine learning
    (
        &["flink.apache.org"],
        "FlinkDeployment",
        &[
            (Image, "spec.image"),
            (Template, "spec.podTemplate"),
            (Template, "spec.jobManager.podTemplate"),
            (Template, "spec.taskManager.podTemplate"),
        ],
    ),
    (SPARK, "SparkApplication", &[(Parts(SPARK_SPEC), "spec")]),
    (
        SPARK,
        "ScheduledSparkApplication",
        &[(Parts(SPARK_SPEC), "spec.template")],
    ),
    (RAY, "RayCluster", &[(Parts(RAY_CLUSTER_SPEC), "spec")]),
    (
        RAY,
        "RayJob",
        &[
            (Parts(RAY_CLUSTER_SPEC), "spec.rayClusterSpec"),
            (Template, "spec.submitterPodTemplate"),
        ],
    ),
    (
        RAY,
        "RayService",
        &[(Parts(RAY_CLUSTER_SPEC), "spec.rayClusterConfig")],
    ),
    (
        KUBEFLOW,
        "PyTorchJob",
        &[(Template, "spec.pytorchReplicaSpecs.*.template")],
    ),
    (
        KUBEFLOW,
        "TFJob",
        &[(Template, "spec.tfReplicaSpecs.*.template")],
    ),
    (
        KUBEFLOW,
        "MPIJob",
        &[(Template, "spec.mpiReplicaSpecs.*.template")],
    ),
    (
        KUBEFLOW,
        "XGBoostJob",
        &[(Template, "spec.xgbReplicaSpecs.*.template")],
    ),
    (KUBEFLOW, "Notebook", SPEC_TEMPLATE),
    // Other workloads
    (
        &["batch.volcano.sh"],
        "Job",
        &[(Template, "spec.tasks.*.template")],
    ),
    (
        &["jobset.x-k8s.io"],
        "JobSet",
        &[(Template, "spec.replicatedJobs.*.template.spec.template")],
    ),
    (
        &["leaderworkerset.x-k8s.io"],
        "LeaderWorkerSet",
        &[
            (Template, "spec.leaderWorkerTemplate.leaderTemplate"),
            (Template, "spec.leaderWorkerTemplate.workerTemplate"),
        ],
    ),
    (
        &["keda.sh"],
        "ScaledJob",
        &[(Template, "spec.jobTargetRef.template")],
    ),
    (KRUISE, "CloneSet", SPEC_TEMPLATE),
    (KRUISE, "StatefulSet", SPEC_TEMPLATE),
    (KRUISE, "DaemonSet", SPEC_TEMPLATE),
    (AGONES, "GameServer", SPEC_TEMPLATE),
    (
        AGONES,
        "GameServerSet",
        &[(Template, "spec.template.spec.template")],
    ),
    (
        AGONES,
        "Fleet",
        &[(Template, "spec.template.spec.template")],
    ),
    (
        &["actions.github.com"],
        "AutoscalingRunnerSet",
        &[
            (Template, "spec.template"),
            (Template, "spec.listenerTemplate"),
        ],
    ),
    (
        &["operators.coreos.com"],
        "CatalogSource",
        &[(Image, "spec.image")],
    ),
    (
        &["operators.coreos.com"],
        "ClusterServiceVersion",
        &[
            (Template, "spec.install.spec.deployments.*.spec.template"),
            (Image, "spec.relatedImages.*.image"),
        ],
    ),
    // Objects in objects
    (
        &["triggers.tekton.dev"],
        "TriggerTemplate",
        &[(Object, "spec.resourcetemplates.*")],
    ),
    (
        &["work.open-cluster-management.io"],
        "ManifestWork",
        &[(Object, "spec.workload.manifests.*")],
    ),
];

/// The known places of a kind's images; `None` for an unknown kind.
pub(super) fn places(group: &str, kind: &str) -> Option<Places> {
    KINDS
        .iter()
        .find(|(groups, name, _)| *name == kind && groups.contains(&group))
        .map(|it| it.2)
}
