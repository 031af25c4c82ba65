{{/* Names of objects begin with this: `imageswap` for a release of that name. */}}
{{- define "imageswap.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "imageswap.webhook.name" -}}{{ include "imageswap.fullname" . }}-webhook{{- end -}}
{{- define "imageswap.agent.name" -}}{{ include "imageswap.fullname" . }}-agent{{- end -}}
{{- define "imageswap.lastGood.name" -}}{{ include "imageswap.fullname" . }}-last-good{{- end -}}
{{- define "imageswap.runbook.name" -}}{{ include "imageswap.fullname" . }}-runbook{{- end -}}
{{- define "imageswap.agent.namespace" -}}{{ .Values.agent.namespace.name | default .Release.Namespace }}{{- end -}}

{{/* The maps ConfigMap and its namespace. */}}
{{- define "imageswap.maps.name" -}}
{{- .Values.maps.configMap | default (printf "%s-maps" (include "imageswap.fullname" .)) -}}
{{- end -}}
{{- define "imageswap.maps.namespace" -}}{{ .Values.maps.namespace | default .Release.Namespace }}{{- end -}}

{{/* The Secret that the certificate is in. */}}
{{- define "imageswap.tls.secret" -}}
{{- if eq .Values.certificates.mode "provided" -}}
{{- .Values.certificates.provided.secretName -}}
{{- else -}}
{{- include "imageswap.webhook.name" . }}-tls
{{- end -}}
{{- end -}}

{{- define "imageswap.webhook.serviceAccount" -}}
{{- if .Values.webhook.serviceAccount.create -}}
{{- .Values.webhook.serviceAccount.name | default (include "imageswap.webhook.name" .) -}}
{{- else -}}
{{- .Values.webhook.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}
{{- define "imageswap.agent.serviceAccount" -}}
{{- if .Values.agent.serviceAccount.create -}}
{{- .Values.agent.serviceAccount.name | default (include "imageswap.agent.name" .) -}}
{{- else -}}
{{- .Values.agent.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/*
What never changes in the life of a release: Deployments and DaemonSets cannot change their selectors. The name is fixed,
for `imageswap drift` and the alerts find the programs by it. Takes a list: the root, the component.
*/}}
{{- define "imageswap.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: imageswap-{{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end -}}

{{/* Labels of an object. Takes a list: the root, the component. */}}
{{- define "imageswap.labels" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
app.kubernetes.io/name: {{ if has $component (list "policy" "monitoring") }}imageswap{{ else }}imageswap-{{ $component }}{{ end }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ $component }}
app.kubernetes.io/part-of: imageswap
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a Pod. Takes a list: the root, the component, the Pod's own labels. */}}
{{- define "imageswap.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "imageswap.selectorLabels" . }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: imageswap
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with index . 2 }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image reference. Takes a list: the root, the component's image. */}}
{{- define "imageswap.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $image.registry | default $root.Values.image.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- $tag := $image.tag | default $root.Values.image.tag -}}
{{- if $image.digest -}}
{{- with $tag }}:{{ . }}{{ end }}@{{ $image.digest }}
{{- else -}}
:{{ $tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Address and port as the programs want them. Takes a list: the address, the port. */}}
{{- define "imageswap.listen" -}}
{{- $address := index . 0 -}}
{{- if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address }}{{ end }}:{{ index . 1 | int }}
{{- end -}}

{{/* Flags that both programs take. */}}
{{- define "imageswap.commonArgs" -}}
- --policy-from-cluster
{{- if .Values.maps.enabled }}
- --maps-configmap={{ include "imageswap.maps.namespace" . }}/{{ include "imageswap.maps.name" . }}
{{- end }}
- --last-good-configmap={{ .Release.Namespace }}/{{ include "imageswap.lastGood.name" . }}
{{- with .Values.maps.disableLabel }}
- --disable-label={{ . }}
{{- end }}
{{- if ne .Values.log.format "text" }}
- --log-format={{ .Values.log.format }}
{{- end }}
{{- if ne .Values.log.level "info" }}
- {{ printf "--log-level=%s" .Values.log.level | quote }}
{{- end }}
{{- with .Values.otlp.endpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- if .Values.otlp.caConfigMap.name }}
- --otlp-ca=/otlp/{{ .Values.otlp.caConfigMap.key }}
{{- end }}
{{- end -}}

{{/* What a Pod is scraped by where there is no Prometheus operator. Takes a list: the root, the port. */}}
{{- define "imageswap.scrapeAnnotations" -}}
{{- $monitoring := (index . 0).Values.monitoring -}}
{{- if and $monitoring.annotations (not $monitoring.serviceMonitor.enabled) (not $monitoring.podMonitor.enabled) -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 1 | int | quote }}
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}

{{/* Whether there is a ValidatingWebhookConfiguration. */}}
{{- define "imageswap.validating" -}}
{{- if or .Values.webhook.validating.enabled .Values.webhook.policyValidation.enabled }}true{{ end -}}
{{- end -}}

{{/* Namespaces that the webhook is never asked about. */}}
{{- define "imageswap.excludedNamespaces" -}}
{{- $names := list "kube-system" .Release.Namespace -}}
{{- if .Values.agent.enabled }}{{ $names = append $names (include "imageswap.agent.namespace" .) }}{{ end -}}
{{- concat $names .Values.webhook.excludedNamespaces | uniq | toJson -}}
{{- end -}}

{{/* clientConfig of a webhook. Takes a list: the root, the path. */}}
{{- define "imageswap.clientConfig" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.certificates }}
{{- if eq .mode "provided" }}
caBundle: {{ if contains "-----BEGIN" .provided.caBundle }}{{ .provided.caBundle | b64enc }}{{ else }}{{ .provided.caBundle }}{{ end }}
{{ end }}
{{- end -}}
service:
  namespace: {{ $root.Release.Namespace }}
  name: {{ include "imageswap.webhook.name" $root }}
  port: 443
  path: {{ index . 1 }}
{{- end -}}

{{/* Selectors of the webhooks that look at workloads. */}}
{{- define "imageswap.selectors" -}}
namespaceSelector:
  {{- with (.Values.webhook.namespaceSelector | default dict).matchLabels }}
  matchLabels:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  matchExpressions:
    # Neither the cluster nor ImageSwap itself may need the webhook to start.
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
        {{- range include "imageswap.excludedNamespaces" . | fromJsonArray }}
        - {{ . }}
        {{- end }}
    {{- with (.Values.webhook.namespaceSelector | default dict).matchExpressions }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- with .Values.webhook.objectSelector }}
objectSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
Conditions that save calls: the webhook itself leaves alone what they leave out. Each also has to hold where an object
lacks the field. An API server before 1.28 drops them without a word, so it does not get them.
*/}}
{{- define "imageswap.matchConditions" -}}
{{- if semverCompare ">=1.28.0-0" .Capabilities.KubeVersion.Version -}}
matchConditions:
  - name: not-being-deleted
    expression: "!has(object.metadata.deletionTimestamp)"
  # The kubelet's copy of a static Pod: it rejects one that was changed, and one that is denied is only hidden.
  - name: not-a-mirror-pod
    expression: >-
      !request.userInfo.username.startsWith('system:node:') ||
      !has(object.metadata.annotations) ||
      !('kubernetes.io/config.mirror' in object.metadata.annotations)
  {{- with .Values.webhook.matchConditions }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Rules for Pods, of both configurations. */}}
{{- define "imageswap.podRules" -}}
- apiGroups: [""]
  apiVersions: [v1]
  resources: [pods]
  operations: [CREATE, UPDATE]
  scope: Namespaced
- apiGroups: [""]
  apiVersions: [v1]
  resources: [pods/ephemeralcontainers]
  operations: [UPDATE]
  scope: Namespaced
{{- end -}}

{{/* Rules for Pods and, if wanted, workloads, of the validating configuration. */}}
{{- define "imageswap.validatingRules" -}}
{{ include "imageswap.podRules" . }}
{{- if .Values.webhook.validating.workloads }}
# A mistake is refused where it is written, and not only where its Pods fail to come.
- apiGroups: [""]
  apiVersions: [v1]
  resources: [replicationcontrollers]
  operations: [CREATE, UPDATE]
  scope: Namespaced
- apiGroups: [apps]
  apiVersions: [v1]
  resources: [daemonsets, deployments, replicasets, statefulsets]
  operations: [CREATE, UPDATE]
  scope: Namespaced
- apiGroups: [batch]
  apiVersions: [v1, v1beta1]
  resources: [cronjobs, jobs]
  operations: [CREATE, UPDATE]
  scope: Namespaced
{{- end }}
{{- end -}}

{{/* Whether the webhook registers itself for Pods while a policy is in force. */}}
{{- define "imageswap.registersItself" -}}
{{- if eq .Values.webhook.registration "WithPolicy" }}true{{ end -}}
{{- end -}}

{{/*
Annotations of a configuration. Takes a list: the root, the webhook with rules for Pods (or ""), these rules as YAML.
*/}}
{{- define "imageswap.configurationAnnotations" -}}
{{- $root := index . 0 -}}
{{- $registers := and (index . 1) (include "imageswap.registersItself" $root) -}}
{{- $injects := eq $root.Values.certificates.mode "cert-manager" -}}
{{- if or $registers $injects -}}
annotations:
  {{- if $injects }}
  cert-manager.io/inject-ca-from: {{ $root.Release.Namespace }}/{{ include "imageswap.webhook.name" $root }}
  {{- end }}
  {{- if $registers }}
  # The rules that the webhook writes while a policy is in force; without rules no API server calls it.
  imageswap.io/rules: {{ dict (index . 1) (index . 2 | fromYamlArray) | toJson | squote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Whom the programs talk to, as egress rules of a NetworkPolicy. */}}
{{- define "imageswap.adminIngress" -}}
{{- /* Traffic from the Pod's own node is always let through, so that the kubelet needs no rule. */ -}}
{{- with .Values.networkPolicy.adminFrom }}
- ports:
    - {protocol: TCP, port: admin}
  from:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "imageswap.egress" -}}
{{- with .Values.networkPolicy }}
# The API server: its address before it was translated, or after, depending on the network.
- ports:
    {{- range .apiServerPorts }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- with .apiServerTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}
{{- if .Values.otlp.endpoint }}
{{- $url := urlParse .Values.otlp.endpoint }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) }}
- ports:
    - {protocol: TCP, port: {{ int $port }}}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
