-- Argo CD: the health of an ImageSwapPolicy, by its condition Accepted.
hs = {status = "Progressing", message = "the webhook has not read this version yet"}
local conditions = obj.status ~= nil and obj.status.conditions or {}
for _, condition in ipairs(conditions) do
  local current = condition.observedGeneration == nil
    or obj.metadata.generation == nil
    or condition.observedGeneration == obj.metadata.generation
  if condition.type == "Accepted" and current then
    if condition.status == "True" then
      hs.status = "Healthy"
    elseif condition.status == "False" then
      hs.status = "Degraded"
    end
    hs.message = condition.message
  end
end
return hs
